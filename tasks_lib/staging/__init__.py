"""What goes to S3 before a job is made: code and inputs."""
