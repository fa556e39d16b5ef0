"""What a job is: values, and functions of values. Pure."""
