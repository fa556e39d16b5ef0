"""SageMaker's API over the table of jobs: creating, describing, listing, searching, stopping, deleting, tagging."""
