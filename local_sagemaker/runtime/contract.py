"""What SageMaker tells a container: its configuration files and its environment.

Pure. Sources: Developer Guide, "How Amazon SageMaker AI Provides Training Information" and "How Amazon SageMaker
Processing Configures Your Processing Container". The rest of `runtime` imports it.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local_sagemaker.jobs import Job
    from local_sagemaker.keys import Keys
    from local_sagemaker.runtime.plan import Plan

# The hosts share this machine's network and find each other on loopback, so that is the interface to name to NCCL and
# Gloo; on AWS it is eth0.
_INTERFACE = "lo" if sys.platform == "linux" else "lo0"
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def configuration(job: Job, plan: Plan, host: str) -> dict[str, Any]:
    """Return the JSON files of one host: container path -> content."""
    if job.kind == "processing-job":
        return {
            "/opt/ml/config/processingjobconfig.json": _processing_job(job),
            "/opt/ml/config/resourceconfig.json": {"current_host": host, "hosts": list(plan.hosts)},
        }
    channels = job.request.get("InputDataConfig", [])
    hyperparameters = {name: str(value) for name, value in job.request.get("HyperParameters", {}).items()}
    return {
        "/opt/ml/input/config/hyperparameters.json": hyperparameters,
        "/opt/ml/input/config/inputdataconfig.json": {one["ChannelName"]: _channel(job, one) for one in channels},
        "/opt/ml/input/config/resourceconfig.json": _resources(plan, host),
    }


def _channel(job: Job, channel: Mapping[str, Any]) -> dict[str, str]:
    source = channel["DataSource"]["S3DataSource"]
    mode = channel.get("InputMode") or job.request["AlgorithmSpecification"].get("TrainingInputMode", "File")
    content = {"ContentType": channel["ContentType"]} if channel.get("ContentType") else {}
    return {
        **content,
        "TrainingInputMode": mode,
        "S3DistributionType": source.get("S3DataDistributionType", "FullyReplicated"),
        "RecordWrapperType": channel.get("RecordWrapperType", "None"),
    }


def _resources(plan: Plan, host: str) -> dict[str, Any]:
    group = plan.group_of(host)
    return {
        "current_host": host,
        "current_instance_type": plan.groups[group][0],
        "current_group_name": group,
        "hosts": list(plan.hosts),
        "instance_groups": [
            {"instance_group_name": name, "instance_type": kind, "hosts": list(hosts)}
            for name, (kind, hosts) in plan.groups.items()
        ],
        "network_interface_name": _INTERFACE,
    }


def _processing_job(job: Job) -> dict[str, Any]:
    request = job.request
    application = request["AppSpecification"]
    return {
        "ProcessingJobArn": job.arn,
        "ProcessingJobName": job.name,
        "AppSpecification": {
            "ImageUri": application.get("ImageUri"),
            "ContainerEntrypoint": application.get("ContainerEntrypoint"),
            "ContainerArguments": application.get("ContainerArguments"),
        },
        "Environment": request.get("Environment", {}),
        "ProcessingInputs": request.get("ProcessingInputs", []),
        "ProcessingOutputConfig": request.get("ProcessingOutputConfig", {"Outputs": []}),
        "ProcessingResources": request["ProcessingResources"],
        "RoleArn": request.get("RoleArn"),
        "StoppingCondition": request.get("StoppingCondition"),
    }


def environment(job: Job, plan: Plan, *, home: str, endpoint: str | None, keys: Keys) -> dict[str, str]:
    """Return all that a host's command finds in its environment; nothing of the caller's is passed on.

    Args:
        job: the job.
        plan: its plan; the request's variables win over ours.
        home: a private, empty directory for `HOME`, since credentials lie in the real one.
        endpoint: the local endpoint for AWS clients; None while there is none.
        keys: temporary ones of the job's role; never the home's own.
    """
    region = job.arn.split(":")[3]
    variables = {
        # The runner's "image" is the Python that runs this server; it comes first, under the names images give it.
        "PATH": f"{os.path.dirname(sys.executable)}:{_SYSTEM_PATH}",  # noqa: PTH120 -- a string for PATH
        "HOME": home,
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        # As AWS's deep learning containers have it: lines reach the log when they are printed.
        "PYTHONUNBUFFERED": "1",
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_ACCESS_KEY_ID": keys.access_key,
        "AWS_SECRET_ACCESS_KEY": keys.secret_key,
        "AWS_SESSION_TOKEN": keys.token,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    if endpoint:
        variables["AWS_ENDPOINT_URL"] = endpoint
    if job.kind == "training-job":
        variables |= {"TRAINING_JOB_NAME": job.name, "TRAINING_JOB_ARN": job.arn}
    return {**variables, **plan.environment}
