"""One call of a task, from what its author wrote to its result."""
