"""Calls to AWS: SageMaker, S3, CloudWatch Logs, IAM, SQS and Service Quotas."""
