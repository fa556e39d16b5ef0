"""Records of a task's jobs, heartbeats of their waiters and the lease on its state, in S3 beside its data."""
