"""Training jobs of the local SageMaker.

Sources: API reference, CreateTrainingJob and DescribeTrainingJob; Developer Guide, "How Amazon SageMaker AI Provides
Training Information".
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

from local_sagemaker.kind import Document, JobKind
from local_sagemaker.runtime.runtime_spec import (
    Archives,
    Input,
    Output,
    RuntimeSpec,
    S3Location,
    command_of,
    container_path,
    groups_of,
    input_of,
    volume_of,
)
from local_sagemaker.sagemaker.rules import check_training_job

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from local_sagemaker.jobs import Job
    from local_sagemaker.runtime.workspace import Outcome, Progress

TRAIN = "train"
"""The command of a training image without `ContainerEntrypoint`: `docker run image train` (Developer Guide)."""

# The network interface for NCCL and Gloo. The hosts share this machine's network and reach each other on loopback; on
# AWS the interface is eth0.
_INTERFACE = "lo" if sys.platform == "linux" else "lo0"


# -- the request -----------------------------------------------------------------------------------------------------


def _defaults(request: Document) -> Document:
    """Return what `DescribeTrainingJob` always shows; it shows the model's location before the model exists."""
    output = request["OutputDataConfig"]
    model = "model/" if output.get("CompressionType") == "NONE" else "model.tar.gz"
    folder = f"{output['S3OutputPath'].rstrip('/')}/{request['TrainingJobName']}/output"
    return {
        "ModelArtifacts": {"S3ModelArtifacts": f"{folder}/{model}"},
        # AWS shows an empty key if there is none, and the SageMaker SDK v2 relies on it (`Estimator.attach`).
        "OutputDataConfig": {"KmsKeyId": "", "CompressionType": "GZIP"},
        "StoppingCondition": {"MaxRuntimeInSeconds": 86_400},  # API reference, StoppingCondition: 1 day by default
        "EnableNetworkIsolation": False,
        "EnableInterContainerTrafficEncryption": False,
        "EnableManagedSpotTraining": False,
    }


def _quota(request: Document) -> str:
    """Return the quota's usage as Service Quotas names it; spot instances have a quota of their own."""
    return "spot training job usage" if request.get("EnableManagedSpotTraining") else "training job usage"


# -- the runtime spec ------------------------------------------------------------------------------------------------


def _plan(job: Job) -> RuntimeSpec:
    request = job.request
    stopping = request.get("StoppingCondition", {})
    cluster = TRAINING.cluster_of(job.described)
    checkpoint = _checkpoint(request)
    return RuntimeSpec(
        groups=groups_of(cluster),
        command=_command(request),
        environment=request.get("Environment", {}),
        inputs=(*(_channel(one, request) for one in request.get("InputDataConfig", [])), *_restores(checkpoint)),
        outputs=checkpoint,
        archives=_archives(job),
        max_runtime=TRAINING.max_runtime_of(request),
        max_wait=stopping.get("MaxWaitTimeInSeconds") if request.get("EnableManagedSpotTraining") else None,
        volume_gb=volume_of(cluster),
        metrics=tuple(request.get("AlgorithmSpecification", {}).get("MetricDefinitions", ())),
    )


def _archives(job: Job) -> Archives:
    output = job.request["OutputDataConfig"]
    target = S3Location.parse(output["S3OutputPath"])
    return Archives(S3Location(target.bucket, target.below(job.name)), output.get("CompressionType") != "NONE")


def _command(request: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the command of a training job; without an entry point, AWS's training toolkit runs the named script."""
    algorithm = request.get("AlgorithmSpecification", {})
    if "ContainerEntrypoint" not in algorithm and "sagemaker_program" in request.get("HyperParameters", {}):
        return (TRAIN, *algorithm.get("ContainerArguments", []))
    return command_of(algorithm, "AlgorithmSpecification", "TrainingImage")


def _channel(channel: Mapping[str, Any], request: Mapping[str, Any]) -> Input:
    name, source = channel["ChannelName"], channel.get("DataSource", {}).get("S3DataSource")
    return input_of(name, source, _mode(channel, request), f"/opt/ml/input/data/{name}")


def _mode(channel: Mapping[str, Any], request: Mapping[str, Any]) -> str:
    """Return the input mode of a channel: its own, or that of the job."""
    return str(channel.get("InputMode") or request["AlgorithmSpecification"].get("TrainingInputMode", "File"))


def _checkpoint(request: Mapping[str, Any]) -> tuple[Output, ...]:
    given = request.get("CheckpointConfig")
    if not given:
        return ()
    path = container_path(given.get("LocalPath") or "/opt/ml/checkpoints")
    return (Output(S3Location.parse(given["S3Uri"]), path, continuous=True),)


def _restores(checkpoint: tuple[Output, ...]) -> tuple[Input, ...]:
    return tuple(Input("checkpoints", one.target, one.path, required=False) for one in checkpoint)


# -- the configuration files -----------------------------------------------------------------------------------------


def _configuration(job: Job, plan: RuntimeSpec, host: str) -> dict[str, Any]:
    channels = job.request.get("InputDataConfig", [])
    hyperparameters = {name: str(value) for name, value in job.request.get("HyperParameters", {}).items()}
    return {
        "/opt/ml/input/config/hyperparameters.json": hyperparameters,
        "/opt/ml/input/config/inputdataconfig.json": {one["ChannelName"]: _told(job, one) for one in channels},
        "/opt/ml/input/config/resourceconfig.json": _resources(plan, host),
    }


def _told(job: Job, channel: Mapping[str, Any]) -> dict[str, str]:
    source = channel["DataSource"]["S3DataSource"]
    content = {"ContentType": channel["ContentType"]} if channel.get("ContentType") else {}
    return {
        **content,
        "TrainingInputMode": _mode(channel, job.request),
        "S3DistributionType": source.get("S3DataDistributionType", "FullyReplicated"),
        "RecordWrapperType": channel.get("RecordWrapperType", "None"),
    }


def _resources(plan: RuntimeSpec, host: str) -> dict[str, Any]:
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


# -- the end ---------------------------------------------------------------------------------------------------------


def _closing_fields(progress: Progress, outcome: Outcome) -> dict[str, Any]:
    """Return the fields that Describe shows for the end of a job.

    `BillableTimeInSeconds` is wall-clock time, not multiplied by the number of instances (API reference,
    `DescribeTrainingJob`). It excludes the time that an interrupted spot job waited for instances. No other discount
    applies.
    """
    ended = {"TrainingEndTime": outcome.ended}
    if progress.started is None:  # the job never had instances
        return ended
    return {
        **ended,
        "TrainingTimeInSeconds": _whole(outcome.ended - progress.started),
        "BillableTimeInSeconds": _whole(progress.seconds(outcome.ended)),
    }


def _whole(seconds: float) -> int:
    return max(1, math.ceil(seconds))


def _results(job: Job) -> Iterator[S3Location]:
    yield _archives(job).model


TRAINING = JobKind(
    name="training-job",
    noun="TrainingJob",
    # The text is from AWS, as seen in workbench issue 384 and amazon-sagemaker-examples pull request 3108.
    taken="Training job names must be unique within an AWS account and region, "
    "and a training job with this name already exists",
    log_group="/aws/sagemaker/TrainingJobs",
    event_type="SageMaker Training Job State Change",
    start_time="TrainingStartTime",
    image=("AlgorithmSpecification", "TrainingImage"),
    cluster=("ResourceConfig",),
    output_config="OutputDataConfig",
    check=check_training_job,
    defaults=_defaults,
    quota=_quota,
    plan=_plan,
    configuration=_configuration,
    variables=lambda job: {"TRAINING_JOB_NAME": job.name, "TRAINING_JOB_ARN": job.arn},
    failure=lambda text: text,
    closing_fields=_closing_fields,
    results=_results,
)
