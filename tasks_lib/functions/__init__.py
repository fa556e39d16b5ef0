"""Function tasks: a Python function whose calls are jobs, with its code, its arguments and its result."""
