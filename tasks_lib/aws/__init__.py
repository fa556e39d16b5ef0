"""The edge to AWS: SageMaker, S3, CloudWatch Logs and IAM, each with one caller."""
