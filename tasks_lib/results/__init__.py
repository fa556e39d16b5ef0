"""The results of tasks, their explanation and their comparison."""
