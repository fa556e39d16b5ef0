"""Train with the SageMaker SDK v3, with a default session and without a role; print the job's name."""

import sys

from sagemaker.core.helper.session_helper import Session, get_execution_role
from sagemaker.train import ModelTrainer
from sagemaker.train.configs import Compute, SourceCode

trainer = ModelTrainer(
    training_image="763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.6.0-cpu-py312",
    source_code=SourceCode(source_dir=sys.argv[1], entry_script="train.py"),
    compute=Compute(instance_type="ml.m5.large", instance_count=1),
    hyperparameters={"alpha": 0.5},
    base_job_name="trained-by-v3",
)
trainer.train(wait=len(sys.argv) > 2)
print("role:", get_execution_role(Session()))
print("job:", trainer._latest_training_job.training_job_name)  # the SDK has no public name for it
