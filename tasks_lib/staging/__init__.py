"""Uploads a job's code and inputs to S3 before it is created."""
