"""Our own records of a task's jobs, in S3 beside its data, and who holds and who waits for what."""
