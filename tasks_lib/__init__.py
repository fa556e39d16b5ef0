"""What does the work: SageMaker jobs as Prefect tasks, skipped when their result is already in S3.

May be imported by flows and by users; stands on `blocks`, and takes `worker_toolkit` along as files.
"""

from tasks_lib.channels import Channel, TaskOutput, output_of
from tasks_lib.outputs import Output
from tasks_lib.results import JobResult
from tasks_lib.tasks import SageMakerTasks, sagemaker_tasks

__all__ = ["Channel", "JobResult", "Output", "SageMakerTasks", "TaskOutput", "output_of", "sagemaker_tasks"]
