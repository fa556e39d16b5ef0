"""The values of a job: `JobSpec` is what the author asks for, `JobPlace` is where one execution of it lives.

Both together make the request (`kinds/`). AWS's own limits are not repeated here: `aws/request_validation.py` reads
them from botocore's model.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, InstanceOf

from tasks_lib.errors import InvalidHyperparameter, InvalidRequest
from tasks_lib.jobs.capacity import InstanceChoice, fallbacks
from tasks_lib.jobs.channels import Distribution
from tasks_lib.jobs.kind import JobKind
from tasks_lib.jobs.manifest import Manifest
from tasks_lib.jobs.naming import check_variables
from tasks_lib.jobs.s3_layout import TaskFolder
from tasks_lib.options import StateMode
from worker_toolkit.arguments import LONGEST


class JobSpec(BaseModel):
    """One job as its author asks for it, completed with the project's defaults; frozen.

    Args:
        kind: Kind of job.
        task: The task's name.
        image: Container image.
        entry_point: File of the source to run (`.py`, `.sh`, `.ipynb`); None with `command`, or if the image runs as
            it is.
        command: Shell command to run instead of a file; None with `entry_point`, or if the image runs as it is.
        arguments: Command line arguments of the entry point.
        hyperparameters: JSON values by name (training only).
        environment: Environment variables of the job.
        secrets: References to secrets by variable name; the job reads the values.
        metrics: Regular expression by metric name; the first group is the value.
        instance_types: SageMaker's instance types, in the order in which they are tried; usually one.
        instance_count: Number of hosts.
        volume_size_gb: Storage of each host, in GB.
        max_runtime_seconds: Time limit, in seconds, after which SageMaker stops the job.
        spot: Use spot instances (training only).
        on_demand_after_spot: Use on-demand instances if there is no spot capacity.
        max_wait_seconds: Time limit of waiting for spot instances and running together, in seconds. The request has at
            least `max_runtime_seconds`.
        state: `task` keeps `state/` between the task's jobs; `none` has neither checkpoints nor a lease.
        subnets: Subnets of the VPC.
        security_group_ids: Security groups in the VPC.
        volume_kms_key: KMS key of the hosts' storage.
        output_kms_key: KMS key of the outputs in S3.
        network_isolation: Cut the containers off from every network.
        encrypt_between_containers: Encrypt traffic between hosts.
        tags: Tags of the job.
        overrides: Request fields that are merged into the request last, by the rules of `overrides.py`.
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
        """The instance choices of its attempts, in the order in which they are tried."""
        return fallbacks(
            self.instance_types,
            at_once=self.kind.types_in_request,
            spot=self.spot,
            on_demand_after_spot=self.on_demand_after_spot,
        )

    @property
    def ships_code(self) -> bool:
        """Whether our bootstrap starts the job. If not, the image runs as it is."""
        return self.entry_point is not None or self.command is not None


@dataclass(frozen=True)
class ResolvedChannel:
    """A channel whose source was found, with what the request and the fingerprint need of it.

    Args:
        name: The channel's name.
        uri: The URI that SageMaker reads.
        distribution: How the objects are distributed over the hosts.
        identity: The input's content or origin, as it enters the fingerprint.
        extract: Whether tarballs are unpacked before the code starts; by default False.
        subdir: Directory inside the unpacked tarball; by default all of it.
        manifest: The files or objects; None if they were not listed.
        foreign: Whether other programs may change it during the job, so that it is listed again at the end.
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
        channels: The job's inputs.
        bundle_uri: URI of the code's bundle; None if the image runs as it is.
        has_state: Whether `state/` holds any object yet; a processing input must not be empty.
        environment: Variables that we add; not part of the fingerprint.
        tags: Tags that we add.
        instances: The instance choice; None for the first choice of the spec.
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
    """Check and return command line arguments of a container.

    Raises:
        InvalidRequest: An argument is too long, or has a line break. It is not split and encoded as a command is,
            because only our bootstrap could undo that, and an image that runs as it is does not have it.
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


_LINE_BREAK = re.compile("[\n\r\x85\u2028\u2029]")  # what `.` does not match in a Java regular expression


def encode_hyperparameters(values: Mapping[str, Any]) -> dict[str, str]:
    """Return hyperparameters as the strings that SageMaker carries.

    Text is sent as it is, and any other value as JSON. Text that reads as JSON is quoted, so that `"1"` and `1` stay
    different. So is text with a line break, which SageMaker's pattern does not allow.

    Raises:
        InvalidHyperparameter: A value cannot be JSON or is not a finite number, or a name is empty or not a `str`.
        InvalidName: Two names would share a variable in the job.
    """
    for name in values:
        if not isinstance(name, str) or not name:
            raise InvalidHyperparameter(f"A hyperparameter is named {name!r}.", fix="name it by a text.")
    check_variables("hyperparameters", "SM_HP_", values)
    return {name: _encode(name, value) for name, value in values.items()}


def _encode(name: str, value: Any) -> str:
    if isinstance(value, str) and not _LINE_BREAK.search(value) and not _reads_as_json(value):
        return value
    try:
        value = value.item() if callable(getattr(value, "item", None)) else value  # scalars of numpy and torch
        return json.dumps(value, allow_nan=False, sort_keys=True)
    except (TypeError, ValueError, RuntimeError) as error:  # also an array or tensor of several numbers
        wrong = f"is not valid JSON: {type(value).__name__} ({error})"
        if isinstance(value, float) and not math.isfinite(value):
            wrong = f"is not a finite number: {value!r}"
        raise InvalidHyperparameter(
            f"Hyperparameter {name!r} {wrong}.",
            fix="give text, numbers, booleans, None, lists or dicts of them; pass larger data as an input.",
        ) from error


def _reads_as_json(text: str) -> bool:
    try:
        json.loads(text)
    except RecursionError:  # the limit depends on the stack of the reader; quoted text is read back in any case
        return True
    except ValueError:
        return False
    return True
