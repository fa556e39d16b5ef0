"""The execution of one call of a task, from its arguments to its result."""
