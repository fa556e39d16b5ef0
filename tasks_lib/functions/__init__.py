"""A Python function as a job: the task of it, its code, its arguments and its value."""
