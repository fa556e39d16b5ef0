"""The SageMaker API over the table of jobs: create, describe, list, search, stop, delete and tag jobs."""
