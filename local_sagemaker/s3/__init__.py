"""A local S3: a durable object store (`store`) and its REST API (`application`)."""
