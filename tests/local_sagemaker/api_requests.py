"""Minimal requests for the API tests, as short as SageMaker allows."""

from __future__ import annotations

import uuid

from waiting import wait_until

ROLE = "arn:aws:iam::123456789012:role/service-role/execution"


def new_name(stem: str = "job") -> str:
    """Return a name that no other test uses."""
    return f"{stem}-{uuid.uuid4().hex[:12]}"


def training_request(name: str, script: str = "true", **more) -> dict:
    """Return a CreateTrainingJob request whose job runs a shell script."""
    return {
        "TrainingJobName": name,
        "RoleArn": ROLE,
        "AlgorithmSpecification": {
            "TrainingImage": "python:3.12",
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["/bin/sh", "-c", script],
        },
        "OutputDataConfig": {"S3OutputPath": "s3://api-tests/out"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        "StoppingCondition": {"MaxRuntimeInSeconds": 300},
        **more,
    }


def processing_request(name: str, script: str = "true", **more) -> dict:
    """Return a CreateProcessingJob request whose job runs a shell script."""
    return {
        "ProcessingJobName": name,
        "RoleArn": ROLE,
        "AppSpecification": {"ImageUri": "python:3.12", "ContainerEntrypoint": ["/bin/sh", "-c", script]},
        "ProcessingResources": {
            "ClusterConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1}
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": 300},
        **more,
    }


def finished(client, name: str, kind: str = "Training") -> dict:
    """Wait for a job to end; return its description."""
    describe = getattr(client, f"describe_{kind.lower()}_job")

    def ended():
        job = describe(**{f"{kind}JobName": name})
        return job if job[f"{kind}JobStatus"] in {"Completed", "Failed", "Stopped"} else None

    return wait_until(ended, f"{name} to end")


def error_of(call, **arguments) -> tuple[str, str]:
    """Return the code and message of the error that a client's method raises."""
    try:
        call(**arguments)
    except call.__self__.exceptions.ClientError as error:
        return error.response["Error"]["Code"], error.response["Error"]["Message"]
    raise AssertionError("the call succeeded")
