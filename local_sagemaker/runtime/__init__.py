"""Job execution: a supervisor for each job, an init for each host, and SageMaker's container file contract."""
