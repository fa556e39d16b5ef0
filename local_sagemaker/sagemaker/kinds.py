"""What tells training and processing jobs apart on the API: words, checks, defaults. Everything else they share.

A record of values and functions and not a class hierarchy, so that `JobOperations` reads from top to bottom once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from local_sagemaker.jobs import Job, Kind
from local_sagemaker.sagemaker.rules import check_processing_job, check_training_job

Document = Mapping[str, Any]


@dataclass(frozen=True)
class JobKind:
    """One kind of job.

    Attributes:
        kind: its name in ARNs and in the table.
        word: how its names begin on the API: `TrainingJobName`, `DescribeTrainingJob`.
        taken: what AWS answers when the name is taken, before the ARN in brackets.
        check: raises `ApiError` for a request that AWS would refuse although it fits the model.
        defaults: what Describe shows where the request was silent.
    """

    kind: Kind
    word: str
    taken: str
    check: Callable[[Document], None]
    defaults: Callable[[Document], Document]

    def describe(self, job: Job) -> dict[str, Any]:
        """Return all that is known of a job, tags included; the answer's shape decides what is shown."""
        return {
            **_filled(job.described, self.defaults(job.request)),
            f"{self.word}JobName": job.name,
            f"{self.word}JobArn": job.arn,
            f"{self.word}JobStatus": job.status,
            "SecondaryStatus": job.secondary_status,
            "CreationTime": job.created,
            "LastModifiedTime": job.modified,
            "Tags": [{"Key": key, "Value": value} for key, value in job.tags.items()],
        }


def _filled(given: Document, defaults: Document) -> dict[str, Any]:
    """Return `given` with what it lacks of `defaults`, in the structures of both as well."""
    both = {
        name: _filled(given[name], default)
        for name, default in defaults.items()
        if isinstance(default, Mapping) and isinstance(given.get(name), Mapping)
    }
    return {**defaults, **given, **both}


def _training_defaults(request: Document) -> Document:
    """What `DescribeTrainingJob` always shows; the place of the model is known before there is one."""
    output = request["OutputDataConfig"]
    model = "model/" if output.get("CompressionType") == "NONE" else "model.tar.gz"
    folder = f"{output['S3OutputPath'].rstrip('/')}/{request['TrainingJobName']}/output"
    return {
        "ModelArtifacts": {"S3ModelArtifacts": f"{folder}/{model}"},
        # Without a key AWS shows an empty one, and the SageMaker SDK v2 asks for it by index (`Estimator.attach`).
        "OutputDataConfig": {"KmsKeyId": "", "CompressionType": "GZIP"},
        "StoppingCondition": {"MaxRuntimeInSeconds": 86_400},  # API reference, StoppingCondition: 1 day by default
        "EnableNetworkIsolation": False,
        "EnableInterContainerTrafficEncryption": False,
        "EnableManagedSpotTraining": False,
    }


def _processing_defaults(request: Document) -> Document:  # noqa: ARG001 -- the same for every request
    return {"StoppingCondition": {"MaxRuntimeInSeconds": 86_400}}  # API reference, ProcessingStoppingCondition


TRAINING = JobKind(
    "training-job",
    "Training",
    # Seen at AWS: workbench issue 384, amazon-sagemaker-examples pull request 3108.
    "Training job names must be unique within an AWS account and region, "
    "and a training job with this name already exists",
    check_training_job,
    _training_defaults,
)
PROCESSING = JobKind(
    "processing-job",
    "Processing",
    # Seen at AWS in a processing step of Step Functions.
    "Job name must be unique within an AWS account and region, and a job with this name already exists",
    check_processing_job,
    _processing_defaults,
)
