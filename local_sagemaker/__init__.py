"""Local SageMaker."""
