"""Process with the SageMaker SDK v3, whose processors need a role, also on AWS; print the job's name."""

import sys

from sagemaker.core.helper.session_helper import get_execution_role
from sagemaker.core.processing import ScriptProcessor

processor = ScriptProcessor(
    role=get_execution_role(),
    image_uri="763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.6.0-cpu-py312",
    command=["python3"],
    instance_type="ml.m5.large",
    instance_count=1,
    base_job_name="processed-by-v3",
)
processor.run(code=f"{sys.argv[1]}/process.py")
print("job:", processor.latest_job.processing_job_name)
