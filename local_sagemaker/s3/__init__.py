"""S3 on this machine: a durable object store (`store`) and its HTTP face (`application`)."""
