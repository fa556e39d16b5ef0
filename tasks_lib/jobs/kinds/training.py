"""The kind of training jobs, by the API reference of CreateTrainingJob and DescribeTrainingJob."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from tasks_lib.jobs.channels import Distribution
from tasks_lib.jobs.job import Job, seconds_between
from tasks_lib.jobs.kind import STATUSES, ApiNames, JobKind, Phase, Progress
from tasks_lib.jobs.kinds.rules import (
    CLUSTER,
    CONTENT,
    DISTRIBUTION,
    ENTRY_POINT_ADVICE,
    EVERY_JOB,
    FREE,
    IGNORED_IN_EVERY_JOB,
    MAX_RUNTIME,
    MEMBERS,
    NAME,
    OTHER_SOURCE,
    REMOVABLE,
    REPLACED,
    VPC,
    below,
    refused,
)
from tasks_lib.jobs.naming import JOB_NAME_LIMIT
from tasks_lib.jobs.override_rules import How, Rule
from tasks_lib.jobs.overrides import member
from tasks_lib.jobs.request import cluster, environment, launch, sources, tags, vpc
from tasks_lib.jobs.spec import JobPlace, JobSpec, encode_hyperparameters
from tasks_lib.options import TrainingOptions
from worker_toolkit import paths
from worker_toolkit.contract import SOURCE_CHANNEL

_PACKED = {"model": "model.tar.gz", "output": "output.tar.gz"}
_UNPACKED = {"model": "model/", "output": "data/"}
"""Prefixes of the outputs with `CompressionType` `NONE` (Developer Guide, "Uncompressed model output")."""

_TYPES_IN_REQUEST = 5
"""Longest list of `InstancePreferences` in botocore's model."""


# -- the request -----------------------------------------------------------------------------------------------------


def _request(spec: JobSpec, place: JobPlace) -> dict[str, Any]:
    choice = place.instances or spec.instance_choices[0]
    wait = max(spec.max_wait_seconds or 0, spec.max_runtime_seconds) if choice.spot else None
    return {
        "TrainingJobName": place.job,
        "AlgorithmSpecification": {
            "TrainingImage": spec.image,
            "TrainingInputMode": "File",
            **launch(spec, place),
            "MetricDefinitions": [{"Name": name, "Regex": regex} for name, regex in spec.metrics.items()],
            "EnableSageMakerMetricsTimeSeries": True if spec.metrics else None,
        },
        "RoleArn": place.role,
        "InputDataConfig": [_channel(name, uri, how, _mode(spec, place, name)) for name, uri, how in sources(place)],
        "OutputDataConfig": {"S3OutputPath": place.folder.uri, "KmsKeyId": spec.output_kms_key},
        "ResourceConfig": cluster(spec, choice),
        "StoppingCondition": {"MaxRuntimeInSeconds": spec.max_runtime_seconds, "MaxWaitTimeInSeconds": wait},
        "HyperParameters": encode_hyperparameters(spec.hyperparameters),
        "Environment": environment(spec, place),
        "CheckpointConfig": _checkpoints(spec, place),
        "EnableManagedSpotTraining": choice.spot or None,
        "EnableNetworkIsolation": spec.network_isolation or None,
        "EnableInterContainerTrafficEncryption": spec.encrypt_between_containers or None,
        "VpcConfig": vpc(spec),
        "Tags": tags(spec, place),
    }


def _channel(name: str, uri: str, distribution: Distribution, mode: str) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": distribution}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}, "InputMode": mode}


def _mode(spec: JobSpec, place: JobPlace, channel: str) -> str:
    """Return a channel's input mode: the job's, but File for the code and for inputs that the bootstrap unpacks."""
    files = {SOURCE_CHANNEL, *(each.name for each in place.channels if each.extract)}
    if channel in files:
        return "File"
    return str(member(spec.overrides, "AlgorithmSpecification", "TrainingInputMode") or "File")


def _checkpoints(spec: JobSpec, place: JobPlace) -> dict[str, Any] | None:
    # The URI ends in a slash: without it SageMaker also restores `state-old/` into `state`.
    return {"S3Uri": place.folder.state.uri, "LocalPath": paths.TRAINING.state} if spec.state == "task" else None


_OVERRIDES: dict[str, Rule] = {
    **EVERY_JOB,
    "TrainingJobName": NAME,
    "HyperParameters": refused("use `hyperparameters`"),
    "AlgorithmSpecification": MEMBERS,
    **below(
        "AlgorithmSpecification",
        {
            "TrainingImage": refused("use `image`"),
            "AlgorithmName": refused("use `image` with the algorithm's image"),
            "TrainingInputMode": Rule(How.REPLACED, "for each input but those with `extract=True`"),
            "MetricDefinitions": refused("use `metrics`", removable=True),
            "EnableSageMakerMetricsTimeSeries": REPLACED,
            "ContainerEntrypoint": refused(ENTRY_POINT_ADVICE, with_code=True),
            "ContainerArguments": refused("use `arguments`"),
            "TrainingImageConfig": FREE,
        },
    ),
    "InputDataConfig": Rule(How.ENTRIES, "what a further channel reads is not in the fingerprint", key="ChannelName"),
    **below(
        "InputDataConfig[]",
        {
            "DataSource": MEMBERS,
            "DataSource.S3DataSource": MEMBERS,
            "DataSource.S3DataSource.S3Uri": CONTENT,
            "DataSource.S3DataSource.S3DataType": CONTENT,
            "DataSource.S3DataSource.S3DataDistributionType": DISTRIBUTION,
            "DataSource.S3DataSource.AttributeNames": FREE,
            "DataSource.S3DataSource.InstanceGroupNames": FREE,
            "DataSource.S3DataSource.ModelAccessConfig": FREE,
            "DataSource.S3DataSource.HubAccessConfig": FREE,
            "DataSource.FileSystemDataSource": OTHER_SOURCE,
            "DataSource.DatasetSource": OTHER_SOURCE,
            "InputMode": Rule(How.REPLACED, "not of an input with `extract=True`"),
            "ContentType": FREE,
            "CompressionType": FREE,
            "RecordWrapperType": FREE,
            "ShuffleConfig": FREE,
        },
    ),
    "OutputDataConfig": MEMBERS,
    **below(
        "OutputDataConfig",
        {
            "S3OutputPath": refused("read the place from the result: the ledger looks for the outputs there"),
            "KmsKeyId": REPLACED,
            "CompressionType": Rule(
                How.REPLACED, "with `NONE`, `result.model` and `result.output` are prefixes", removable=True
            ),
        },
    ),
    "ResourceConfig": MEMBERS,
    **below("ResourceConfig", CLUSTER),
    **below(
        "ResourceConfig",
        {
            "InstanceGroups": Rule(
                How.INSTEAD,
                "removes `InstanceType` and `InstanceCount`",
                instead_of=("InstanceType", "InstanceCount", "InstancePreferences"),
                removable=True,
            ),
            "KeepAlivePeriodInSeconds": FREE,
            "TrainingPlanArn": FREE,
            "InstancePlacementConfig": FREE,
        },
    ),
    "StoppingCondition": MEMBERS,
    **below(
        "StoppingCondition",
        {
            "MaxRuntimeInSeconds": MAX_RUNTIME,
            "MaxWaitTimeInSeconds": refused("use `max_wait_minutes`, which may be a fraction"),
            "MaxPendingTimeInSeconds": FREE,
        },
    ),
    "CheckpointConfig": refused("write to `$SSM_STATE`; `state='none'` keeps nothing"),
    "EnableManagedSpotTraining": refused("use `spot`"),
    "EnableNetworkIsolation": REPLACED,
    "EnableInterContainerTrafficEncryption": REPLACED,
    "VpcConfig": REMOVABLE,
    **below("VpcConfig", VPC),
    "ServerlessJobConfig": refused("give the job an image and an instance type: a serverless job runs no code of ours"),
    "ModelPackageConfig": FREE,
    "DebugHookConfig": FREE,
    "DebugRuleConfigurations": FREE,
    "TensorBoardOutputConfig": FREE,
    "ProfilerConfig": FREE,
    "ProfilerRuleConfigurations": FREE,
    "RetryStrategy": FREE,
    "RemoteDebugConfig": FREE,
    "InfraCheckConfig": FREE,
    "SessionChainingConfig": FREE,
    "MlflowConfig": FREE,
}


# -- the outputs -----------------------------------------------------------------------------------------------------


def _outputs_left(folder: str, left: Collection[str]) -> dict[str, str]:
    """Return the tarball of each output, or its prefix if uncompressed; SageMaker packs no empty directory."""
    found = {}
    for name, tarball in _PACKED.items():
        if tarball in left:
            found[name] = f"{folder}{tarball}"
        elif any(each.startswith(_UNPACKED[name]) for each in left):
            found[name] = f"{folder}{_UNPACKED[name]}"
    return found


def _outputs_possible(spec: JobSpec) -> tuple[str, ...]:
    unpacked = member(spec.overrides, "OutputDataConfig", "CompressionType") == "NONE"
    return tuple((_UNPACKED if unpacked else _PACKED).values())


# -- the description -------------------------------------------------------------------------------------------------


class _Step(NamedTuple):
    """The meaning of a `SecondaryStatus`: the phase that its seconds count for, and the job's progress."""

    phase: str | None
    percent: float
    words: str


# The values of `SecondaryStatus` in botocore's model; a test compares the two. A status of the job's end has no phase,
# since it takes no time.
_STEPS = {
    "Starting": _Step("starting", 5, "Starting"),
    "Pending": _Step("starting", 5, "Waiting for instances"),
    "LaunchingMLInstances": _Step("starting", 10, "Launching instances"),
    "PreparingTrainingStack": _Step("starting", 15, "Preparing instances"),
    "Restarting": _Step("starting", 5, "Restarting"),
    "Downloading": _Step("downloading", 25, "Downloading inputs"),
    "DownloadingTrainingImage": _Step("downloading", 30, "Downloading the image"),
    "Training": _Step("training", 50, "Training"),
    "Updating": _Step("training", 50, "Training, with new settings"),
    "Uploading": _Step("uploading", 90, "Uploading outputs"),
    "Interrupted": _Step("interrupted", 5, "Interrupted: AWS took the instances back"),
    "Stopping": _Step("stopping", 90, "Stopping"),
    "Completed": _Step(None, 100, "Completed"),
    "Failed": _Step(None, 100, "Failed"),
    "Stopped": _Step(None, 100, "Stopped"),
    "MaxRuntimeExceeded": _Step(None, 90, "Stopping at its time limit"),
    "MaxWaitTimeExceeded": _Step(None, 90, "Stopping at its time limit"),
}


def _seconds_by_phase(answer: Mapping[str, Any]) -> dict[str, float]:
    seconds: dict[str, float] = {}
    for row in answer.get("SecondaryStatusTransitions", ()):
        step = _STEPS.get(row["Status"])
        if step and step.phase and "EndTime" in row:
            passed = seconds_between(row["StartTime"], row["EndTime"])
            seconds[step.phase] = seconds.get(step.phase, 0.0) + passed
    return seconds


def _progress(job: Job) -> Progress:
    step = _STEPS.get(job.secondary)
    if step:
        return Progress(step.percent, step.words)
    return Progress(90, "Stopping") if job.phase is Phase.STOPPING else Progress(5, job.secondary or "Starting")


TRAINING = JobKind(
    name="training",
    layout=paths.TRAINING,
    api=ApiNames("TrainingJob", start_time="TrainingStartTime", end_time="TrainingEndTime"),
    statuses=STATUSES,
    log_group="/aws/sagemaker/TrainingJobs",
    event_type="SageMaker Training Job State Change",
    console_page="jobs",
    iam_resource="training-job",
    name_limit=JOB_NAME_LIMIT,
    outputs=("model", "output", "state", "source"),
    default_output="model",
    options=TrainingOptions,
    overrides=_OVERRIDES,
    inputs_field="InputDataConfig",
    ignored_request_fields=IGNORED_IN_EVERY_JOB
    | {
        "EnableInterContainerTrafficEncryption",
        "EnableManagedSpotTraining",
        "ProfilerConfig",
        "ProfilerRuleConfigurations",
        "RetryStrategy",
        "TensorBoardOutputConfig",
        "VpcConfig",
        "AlgorithmSpecification.MetricDefinitions",
        "ResourceConfig.InstanceGroups[].InstanceType",
        "ResourceConfig.InstancePreferences",
        "ResourceConfig.InstanceType",
        "ResourceConfig.KeepAlivePeriodInSeconds",
        "ResourceConfig.TrainingPlanArn",
        "ResourceConfig.VolumeKmsKeyId",
        "ResourceConfig.VolumeSizeInGB",
        "OutputDataConfig.KmsKeyId",
    },
    runs_code=True,
    types_in_request=_TYPES_IN_REQUEST,
    has_spot=True,
    quota_uses=("training", "spot training"),
    state_is_input=False,
    phases=("starting", "downloading", "training", "interrupted", "stopping", "uploading"),
    computing="training",
    reports_billable_seconds=True,
    request=_request,
    existing_outputs=_outputs_left,
    possible_objects=_outputs_possible,
    environment=lambda document: document.get("Environment", {}),
    cluster=lambda document: document.get("ResourceConfig", {}),
    quota_use=lambda request: "spot training" if request.get("EnableManagedSpotTraining") else "training",
    seconds_by_phase=_seconds_by_phase,
    progress=_progress,
)
