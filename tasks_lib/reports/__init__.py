"""What a step tells: artifacts in Prefect's UI, its job's log in Prefect's, with secrets taken out."""
