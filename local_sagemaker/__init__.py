"""An embedded SageMaker and S3 for laptops, with the AWS services around them."""
