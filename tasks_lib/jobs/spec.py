"""The values of a job: `JobSpec` is what the author wants, `JobPlace` is where this execution lives.

Together they give the request (`kinds/`). AWS's own limits are not repeated here: `aws/request_validation.py` reads
them from botocore's model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, InstanceOf

from tasks_lib.errors import InvalidRequest
from tasks_lib.jobs.capacity import InstanceChoice, fallbacks
from tasks_lib.jobs.channels import Distribution
from tasks_lib.jobs.kind import JobKind
from tasks_lib.jobs.manifest import Manifest
from tasks_lib.jobs.s3_layout import TaskFolder
from tasks_lib.options import StateMode
from worker_toolkit.arguments import LONGEST


class JobSpec(BaseModel):
    """One job as its author wants it; frozen, and complete with the project's defaults.

    Args:
        kind: Kind of job.
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

    kind: InstanceOf[JobKind]
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
    def instance_choices(self) -> tuple[InstanceChoice, ...]:
        """What its attempts may run on, in their order."""
        return fallbacks(
            self.instance_types,
            at_once=self.kind.types_in_request,
            spot=self.spot,
            on_demand_after_spot=self.on_demand_after_spot,
        )

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
        folder: The task's folder in S3.
        role: ARN of the role that the job assumes.
        channels: Its inputs.
        bundle_uri: Where the code lies; none for an image that is complete in itself.
        has_state: Whether `state/` holds anything yet; a processing input must not be empty.
        environment: Variables that we inject; never part of the fingerprint.
        tags: Tags that we add.
        instances: What it runs on; the spec's first where nothing else is known.
    """

    job: str
    folder: TaskFolder
    role: str
    channels: tuple[ResolvedChannel, ...]
    bundle_uri: str | None
    has_state: bool
    environment: Mapping[str, str]
    tags: Mapping[str, str]
    instances: InstanceChoice | None = None


def check_arguments(task: str, arguments: tuple[str, ...]) -> tuple[str, ...]:
    """Return command line arguments that a container can be given.

    Raises:
        InvalidRequest: One is too long, or has a line break. It is not cut and wrapped as a command is: an image that
            is complete in itself has nobody who would undo that.
    """
    for number, argument in enumerate(arguments, 1):
        too_long = len(argument) > LONGEST
        if too_long or len(argument.splitlines()) > 1:
            what = f"{len(argument)} characters, at most {LONGEST}" if too_long else "a line break, none"
            raise InvalidRequest(
                f"Argument {number} of the task {task!r} has {what} allowed (ContainerArguments): {argument[:60]!r}…",
                fix="write it to a file and give that in `inputs` or among the code's files; a training job's "
                "hyperparameter may have 2,500 characters.",
            )
    return arguments
