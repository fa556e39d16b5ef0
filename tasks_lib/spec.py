"""What a job is, as values, and the request that asks SageMaker for it. Pure.

`JobSpec` is what the author wants; `JobPlace` is where this execution lives. Together they give the request. The
wire's own limits are not repeated here: `aws/request_check.py` reads them from botocore's model.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tasks_lib.capacity import Rung, ladder
from tasks_lib.channels import Distribution
from tasks_lib.errors import InvalidRequest
from tasks_lib.hyperparameters import encode_hyperparameters
from tasks_lib.manifest import Manifest
from tasks_lib.naming import SOURCE_CHANNEL, STATE_CHANNEL
from tasks_lib.overrides import member, with_overrides
from tasks_lib.secret_references import secret_variables
from tasks_lib.status import JobKind

StateMode = Literal["task", "none"]

ARGUMENT_LIMIT = 256
"""Characters of one of `ContainerArguments` in botocore's model. Repeated here, because a command is cut to it."""

STATE_PATH = "/state"
PROCESSING = "/opt/ml/processing"
_TARBALLS = ("model.tar.gz", "output.tar.gz")
_PREFIXES = ("model/", "data/")
"""What a training job leaves with `CompressionType` `NONE` (Developer Guide, "Uncompressed model output")."""
_STARTER = 'exec sh "$LOCAL_SAGEMAKER_ROOT{channel}/start.sh" "$@"'


class JobSpec(BaseModel):
    """One job as its author wants it; frozen, and complete with the project's defaults.

    Args:
        kind: `training` or `processing`.
        task: The task's name.
        image: Container image.
        entry_point: File of the source to run (`.py`, `.sh`, `.ipynb`); none with `command`, or for an image that is
            complete in itself.
        command: Shell command to run instead of a file.
        arguments: Command line arguments of the entry point.
        hyperparameters: JSON values by name (training only).
        environment: Environment variables of the job.
        secrets: References to secrets by the variables of the user's program; the job reads the values.
        metrics: Regular expression by metric name; the first group is the value.
        instance_types: SageMaker's instance types, in the order in which they are tried; mostly one.
        instance_count: Number of hosts.
        volume_size_gb: Storage of each host.
        max_runtime_seconds: SageMaker stops the job then.
        spot: Use spot instances (training only).
        on_demand_after_spot: Go on-demand where there is no spot capacity.
        max_wait_seconds: Longest run and wait for spot together; at least `max_runtime_seconds`.
        state: `task` keeps `state/` between the task's jobs; `none` has neither checkpoint nor lease.
        subnets: Subnets of the VPC.
        security_group_ids: Security groups in the VPC.
        volume_kms_key: KMS key of the hosts' storage.
        output_kms_key: KMS key of what is written to S3.
        network_isolation: Cut the containers off from every network.
        encrypt_between_containers: Encrypt traffic between hosts.
        tags: Tags of the job.
        overrides: Laid over the request last, by the rules of `overrides.py`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    kind: JobKind
    task: str
    image: str
    entry_point: str | None = None
    command: str | None = None
    arguments: tuple[str, ...] = ()
    hyperparameters: dict[str, Any] = {}
    environment: dict[str, str] = {}
    secrets: dict[str, str] = {}
    metrics: dict[str, str] = {}
    instance_types: tuple[str, ...] = Field(min_length=1)
    instance_count: int = Field(ge=1)
    volume_size_gb: int
    max_runtime_seconds: int
    spot: bool = False
    on_demand_after_spot: bool = False
    max_wait_seconds: int | None = None
    state: StateMode = "task"
    subnets: tuple[str, ...] = ()
    security_group_ids: tuple[str, ...] = ()
    volume_kms_key: str | None = None
    output_kms_key: str | None = None
    network_isolation: bool = False
    encrypt_between_containers: bool = False
    tags: dict[str, str] = {}
    overrides: dict[str, Any] = {}

    @property
    def rungs(self) -> tuple[Rung, ...]:
        """What its attempts may run on, in their order."""
        return ladder(self.kind, self.instance_types, spot=self.spot, on_demand_after_spot=self.on_demand_after_spot)

    @property
    def ships_code(self) -> bool:
        """Whether our bootstrap starts the job; else the image runs as it is."""
        return self.entry_point is not None or self.command is not None


@dataclass(frozen=True)
class ResolvedChannel:
    """A channel whose source is known to exist: what SageMaker is told, and what the fingerprint sees.

    Args:
        name: The channel's name.
        uri: Where SageMaker reads.
        distribution: Over the hosts.
        identity: What makes this input what it is; enters the fingerprint.
        extract: Whether tarballs are unpacked before the code starts.
        subdir: Directory inside the unpacked tarball.
        manifest: The files or objects, where they were listed.
        foreign: Whether others may change it under our feet, so that it is listed again at the end.
    """

    name: str
    uri: str
    distribution: Distribution
    identity: Mapping[str, Any]
    extract: bool = False
    subdir: str = ""
    manifest: Manifest | None = None
    foreign: bool = False


@dataclass(frozen=True)
class JobPlace:
    """Where one execution of a spec lives.

    Args:
        job: The job's name.
        task_uri: The task's folder in S3, ending in `/`.
        role: ARN of the role that the job assumes.
        channels: Its inputs.
        bundle_uri: Where the code lies; none for an image that is complete in itself.
        has_state: Whether `state/` holds anything yet; a processing input must not be empty.
        environment: Variables that we inject; never part of the fingerprint.
        tags: Tags that we add.
        rung: What it runs on; the spec's first where nothing else is known.
    """

    job: str
    task_uri: str
    role: str
    channels: tuple[ResolvedChannel, ...]
    bundle_uri: str | None
    has_state: bool
    environment: Mapping[str, str]
    tags: Mapping[str, str]
    rung: Rung | None = None


def to_request(spec: JobSpec, place: JobPlace) -> dict[str, Any]:
    """Return the arguments of `CreateTrainingJob` or `CreateProcessingJob`."""
    build = _training_request if spec.kind == "training" else _processing_request
    return with_overrides(spec.kind, _without_nothing(build(spec, place)), spec.overrides)


def outputs_of(spec: JobSpec, place: JobPlace, left: Collection[str], *, has_state: bool) -> dict[str, str]:
    """Return the URI of each output by name, of those that there are.

    Args:
        spec: The job.
        place: Where it ran.
        left: Names of what it left in its output folder; SageMaker makes no tarball of an empty directory.
        has_state: Whether there is anything in the task's state.
    """
    folder = f"{place.task_uri}{place.job}/output/"
    outputs = {"output": folder} if left else {}
    if spec.kind == "training":
        outputs = {name: f"{folder}{where}" for name, where in _training_outputs(left)}
    if has_state:
        outputs["state"] = f"{place.task_uri}state/"
    if place.bundle_uri:
        outputs["source"] = f"{place.bundle_uri}source.tar.gz"
    return outputs


def all_outputs(spec: JobSpec) -> tuple[str, ...]:
    """Return the names of what a job leaves in its output folder if it writes all outputs."""
    if spec.kind == "processing":
        return ("output",)
    return _PREFIXES if not _packs_outputs(spec) else _TARBALLS


def _packs_outputs(spec: JobSpec) -> bool:
    return bool(member(spec.overrides, "OutputDataConfig", "CompressionType") != "NONE")


def _training_outputs(left: Collection[str]) -> Iterable[tuple[str, str]]:
    """Yield output and name in the output folder: a tarball, or without compression a prefix."""
    for name, tarball, prefix in zip(("model", "output"), _TARBALLS, _PREFIXES, strict=True):
        if tarball in left:
            yield name, tarball
        elif any(each.startswith(prefix) for each in left):
            yield name, prefix


def _training_request(spec: JobSpec, place: JobPlace) -> dict[str, Any]:
    code = f"/opt/ml/input/data/{SOURCE_CHANNEL}"
    rung = place.rung or spec.rungs[0]
    wait = max(spec.max_wait_seconds or 0, spec.max_runtime_seconds) if rung.spot else None
    return {
        "TrainingJobName": place.job,
        "AlgorithmSpecification": {
            "TrainingImage": spec.image,
            "TrainingInputMode": "File",
            **_launch(spec, place, code),
            "MetricDefinitions": [{"Name": name, "Regex": regex} for name, regex in spec.metrics.items()],
            "EnableSageMakerMetricsTimeSeries": True if spec.metrics else None,
        },
        "RoleArn": place.role,
        "InputDataConfig": [
            _training_channel(name, uri, how, _mode(spec, place, name)) for name, uri, how in _sources(place)
        ],
        "OutputDataConfig": {"S3OutputPath": place.task_uri, "KmsKeyId": spec.output_kms_key},
        "ResourceConfig": _cluster(spec, rung),
        "StoppingCondition": {"MaxRuntimeInSeconds": spec.max_runtime_seconds, "MaxWaitTimeInSeconds": wait},
        "HyperParameters": encode_hyperparameters(spec.hyperparameters),
        "Environment": _environment(spec, place),
        "CheckpointConfig": _checkpoints(spec, place),
        "EnableManagedSpotTraining": rung.spot or None,
        "EnableNetworkIsolation": spec.network_isolation or None,
        "EnableInterContainerTrafficEncryption": spec.encrypt_between_containers or None,
        "VpcConfig": _vpc(spec),
        "Tags": _tags(spec, place),
    }


def _processing_request(spec: JobSpec, place: JobPlace) -> dict[str, Any]:
    return {
        "ProcessingJobName": place.job,
        "AppSpecification": {
            "ImageUri": spec.image,
            **_launch(spec, place, f"{PROCESSING}/input/{SOURCE_CHANNEL}"),
        },
        "RoleArn": place.role,
        "ProcessingInputs": [*_processing_inputs(spec, place)],
        "ProcessingOutputConfig": {"Outputs": [*_processing_outputs(spec, place)], "KmsKeyId": spec.output_kms_key},
        "ProcessingResources": {"ClusterConfig": _cluster(spec, place.rung or spec.rungs[0])},
        "StoppingCondition": {"MaxRuntimeInSeconds": spec.max_runtime_seconds},
        "Environment": _environment(spec, place),
        "NetworkConfig": {
            "EnableNetworkIsolation": spec.network_isolation or None,
            "EnableInterContainerTrafficEncryption": spec.encrypt_between_containers or None,
            "VpcConfig": _vpc(spec),
        },
        "Tags": _tags(spec, place),
    }


def _launch(spec: JobSpec, place: JobPlace, channel: str) -> dict[str, Any]:
    """Return how the container starts: our starter with the bootstrap's arguments, or the image as it is."""
    if not spec.ships_code:
        return {"ContainerArguments": list(spec.arguments)}
    run = ["--entry-point", spec.entry_point] if spec.entry_point else [*_command(spec.command or "")]
    for unpack in (item for item in place.channels if item.extract):
        run += ["--extract", f"{unpack.name}={unpack.subdir}" if unpack.subdir else unpack.name]
    return {
        "ContainerEntrypoint": ["/bin/sh", "-c", _STARTER.format(channel=channel), "ssm"],
        "ContainerArguments": [*run, *(["--", *spec.arguments] if spec.arguments else [])],
    }


def _command(command: str) -> Iterable[str]:
    """Yield a command in as many pieces as it needs, for the bootstrap to join, and without line breaks.

    AWS's pattern of an argument, `.*`, is one of Java: it allows no end of a line, nor what Unicode counts as one.
    """
    one_line = command.splitlines() == [command]
    option, text = ("--command", command) if one_line else ("--command-json", json.dumps(command))
    for start in range(0, len(text), ARGUMENT_LIMIT):
        yield from (option, text[start : start + ARGUMENT_LIMIT])


def check_arguments(task: str, arguments: tuple[str, ...]) -> tuple[str, ...]:
    """Return command line arguments that a container can be given.

    Raises:
        InvalidRequest: One is too long, or has a line break. It is not cut and wrapped as a command is: an image that
            is complete in itself has nobody who would undo that.
    """
    for number, argument in enumerate(arguments, 1):
        too_long = len(argument) > ARGUMENT_LIMIT
        if too_long or len(argument.splitlines()) > 1:
            what = f"{len(argument)} characters, at most {ARGUMENT_LIMIT}" if too_long else "a line break, none"
            raise InvalidRequest(
                f"Argument {number} of the task {task!r} has {what} allowed (ContainerArguments): {argument[:60]!r}…",
                fix="write it to a file and give that in `inputs` or among the code's files; a training job's "
                "hyperparameter may have 2,500 characters.",
            )
    return arguments


def _sources(place: JobPlace) -> Iterable[tuple[str, str, Distribution]]:
    for channel in place.channels:
        yield channel.name, channel.uri, channel.distribution
    if place.bundle_uri:
        yield SOURCE_CHANNEL, place.bundle_uri, "FullyReplicated"


def _training_channel(name: str, uri: str, distribution: Distribution, mode: str) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": distribution}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}, "InputMode": mode}


def _mode(spec: JobSpec, place: JobPlace, channel: str) -> str:
    """Return a channel's input mode: the job's, but File for the code and where the bootstrap unpacks in place."""
    files = {SOURCE_CHANNEL, *(each.name for each in place.channels if each.extract)}
    return "File" if channel in files else _input_mode(spec)


def _input_mode(spec: JobSpec) -> str:
    return str(member(spec.overrides, "AlgorithmSpecification", "TrainingInputMode") or "File")


def _processing_inputs(spec: JobSpec, place: JobPlace) -> Iterable[dict[str, Any]]:
    for name, uri, distribution in _sources(place):
        folder = f"{PROCESSING}/input/" if name == SOURCE_CHANNEL else f"{PROCESSING}/input/data/"
        yield _processing_input(name, uri, folder + name, distribution)
    if spec.state == "task" and place.has_state:
        yield _processing_input(STATE_CHANNEL, f"{place.task_uri}state/", f"{PROCESSING}/state_prev", "FullyReplicated")


def _processing_input(name: str, uri: str, path: str, distribution: Distribution) -> dict[str, Any]:
    source = {
        "S3Uri": uri,
        "LocalPath": path,
        "S3DataType": "S3Prefix",
        "S3InputMode": "File",
        "S3DataDistributionType": distribution,
        "S3CompressionType": "None",
    }
    return {"InputName": name, "S3Input": source}


def _processing_outputs(spec: JobSpec, place: JobPlace) -> Iterable[dict[str, Any]]:
    # A state that is uploaded while it grows survives a job that is killed; SageMaker gives processing no checkpoints.
    wanted = [("output", f"{place.task_uri}{place.job}/output/", "EndOfJob")]
    if spec.state == "task":
        wanted.append(("state", f"{place.task_uri}state/", "Continuous"))
    for name, uri, mode in wanted:
        target = {"S3Uri": uri, "LocalPath": f"{PROCESSING}/{name}", "S3UploadMode": mode}
        yield {"OutputName": name, "S3Output": target}


def _cluster(spec: JobSpec, rung: Rung) -> dict[str, Any]:
    choices = [{"InstanceType": one, "InstanceCount": spec.instance_count} for one in rung.types]
    hosts = choices[0] if len(choices) == 1 else {"InstancePreferences": choices}
    return {**hosts, "VolumeSizeInGB": spec.volume_size_gb, "VolumeKmsKeyId": spec.volume_kms_key}


def _checkpoints(spec: JobSpec, place: JobPlace) -> dict[str, Any] | None:
    # The slash at the end: without it SageMaker restores `state-old/` into `state` as well.
    return {"S3Uri": f"{place.task_uri}state/", "LocalPath": STATE_PATH} if spec.state == "task" else None


def _vpc(spec: JobSpec) -> dict[str, Any] | None:
    if not spec.subnets:
        return None
    return {"Subnets": list(spec.subnets), "SecurityGroupIds": list(spec.security_group_ids)}


def _environment(spec: JobSpec, place: JobPlace) -> dict[str, str]:
    return {**spec.environment, **secret_variables(spec.secrets), **place.environment}


def _tags(spec: JobSpec, place: JobPlace) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in {**spec.tags, **place.tags}.items()]


def _without_nothing(value: Any) -> Any:
    """Return a request without the entries that say nothing, as AWS expects them to be absent."""
    if isinstance(value, dict):
        cleaned = {key: _without_nothing(below) for key, below in value.items()}
        return {key: below for key, below in cleaned.items() if below is not None and below not in ({}, [])}
    return value
