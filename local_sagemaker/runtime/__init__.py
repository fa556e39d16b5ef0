"""What really runs the jobs: a supervisor per job, an init per host, and SageMaker's file contract around them."""
