"""The code that depends on how Prefect runs flows and tasks, including its private parts."""
