"""The runtime spec: hosts, command, inputs, outputs and limits of a job, read once from its request.

Training and processing requests have different members for the same things; their runtime specs look alike. The module
does no I/O.
"""

from __future__ import annotations

import math
import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from local_sagemaker.instances import taken

if TYPE_CHECKING:
    from collections.abc import Mapping


MODEL = "/opt/ml/model"
OUTPUT_DATA = "/opt/ml/output/data"
GROUP_OF_ALL = "homogeneousCluster"  # AWS's name for the only group of a job without `InstanceGroups`


class JobFailure(Exception):
    """The job fails; the message is its `FailureReason`."""


@dataclass(frozen=True)
class S3Location:
    """An S3 location.

    Attributes:
        bucket: the bucket.
        key: a key or a key prefix; may be empty.
    """

    bucket: str
    key: str

    @classmethod
    def parse(cls, uri: str) -> S3Location:
        """Parse an S3 URI: `s3://bucket/key`.

        Raises:
            JobFailure: the text is not an S3 URI.
        """
        scheme, _, rest = uri.partition("://")
        bucket, _, key = rest.partition("/")
        if scheme != "s3" or not bucket:
            raise JobFailure(f"ClientError: {uri!r} is not an S3 URI; write s3://bucket/key.")
        return cls(bucket, key)

    def below(self, name: str) -> str:
        """Return the key of `name` in this location, read as a folder with or without a final slash."""
        return f"{self.key.rstrip('/')}/{name}" if self.key.rstrip("/") else name

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True)
class Input:
    """An input: objects that are downloaded to a directory of the hosts before the command starts.

    Attributes:
        name: the name of the channel or of the processing input.
        source: the S3 location of the objects or of the manifest.
        path: the directory in the container.
        manifest: whether `source` is a manifest that lists the objects.
        sharded: whether each host gets only its share (`ShardedByS3Key`).
        required: whether the job fails without an object; False for a checkpoint.
        groups: the instance groups that get the input; empty means all.
    """

    name: str
    source: S3Location
    path: str
    manifest: bool = False
    sharded: bool = False
    required: bool = True
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Output:
    """A directory whose files are uploaded to S3, during the job (`continuous`) or after its completion."""

    target: S3Location
    path: str
    continuous: bool


@dataclass(frozen=True)
class Archives:
    """The S3 location of a training job's model and output data, and whether they are compressed to `tar.gz`."""

    target: S3Location
    compressed: bool

    @property
    def model(self) -> S3Location:
        """The location of the model: `ModelArtifacts.S3ModelArtifacts`."""
        return self._at("model.tar.gz" if self.compressed else "model/")

    @property
    def output(self) -> S3Location:
        """The location of the content of `/opt/ml/output/data`."""
        return self._at("output.tar.gz" if self.compressed else "data/")

    def _at(self, name: str) -> S3Location:
        return S3Location(self.target.bucket, self.target.below(f"output/{name}"))


@dataclass(frozen=True)
class RuntimeSpec:
    """All that the runtime needs to know about a job.

    Attributes:
        groups: instance group -> (instance type, its hosts).
        command: the command of each host.
        environment: the environment variables of the request.
        inputs: the inputs, including checkpoints.
        outputs: the outputs that are uploaded as files, including checkpoints.
        archives: the locations of a training job's artifacts; None for processing.
        max_runtime: seconds that the job may have instances.
        max_wait: seconds from the creation to the end; None without spot instances.
        volume_gb: disk space of each host in GB.
        metrics: the `MetricDefinitions` of the request.
    """

    groups: Mapping[str, tuple[str, tuple[str, ...]]]
    command: tuple[str, ...]
    environment: Mapping[str, str]
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    archives: Archives | None
    max_runtime: float
    max_wait: float | None
    volume_gb: float
    metrics: tuple[Mapping[str, str], ...] = ()

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names of the hosts: `algo-1`, `algo-2` and so on."""
        return tuple(host for _, hosts in self.groups.values() for host in hosts)

    def group_of(self, host: str) -> str:
        """Return the instance group of a host."""
        return next(group for group, (_, hosts) in self.groups.items() if host in hosts)

    def receivers(self, source: Input) -> tuple[str, ...]:
        """Return the names of the hosts that get an input."""
        return tuple(host for host in self.hosts if not source.groups or self.group_of(host) in source.groups)

    @property
    def directories(self) -> tuple[str, ...]:
        """The container paths that exist when the command starts."""
        fixed = ("/opt/ml/input/data", MODEL, OUTPUT_DATA) if self.archives else ("/opt/ml/output",)
        return (*fixed, *(one.path for one in self.inputs), *(one.path for one in self.outputs))


def volume_of(cluster: Mapping[str, Any]) -> float:
    """Return the disk space of each host in GB; infinite if the request has no `VolumeSizeInGB`."""
    return float(cluster.get("VolumeSizeInGB", math.inf))


def groups_of(cluster: Mapping[str, Any]) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return the instance type and the hosts of each instance group."""
    (name, count), *_ = taken(cluster).items()
    whole = {"InstanceGroupName": GROUP_OF_ALL, "InstanceType": name, "InstanceCount": count}
    given = cluster.get("InstanceGroups") or [whole]
    groups: dict[str, tuple[str, tuple[str, ...]]] = {}
    first = 1
    for one in given:
        hosts = tuple(f"algo-{number}" for number in range(first, first + one["InstanceCount"]))
        groups[one["InstanceGroupName"]] = (one["InstanceType"], hosts)
        first += len(hosts)
    return groups


def command_of(given: Mapping[str, Any], member: str, image: str) -> tuple[str, ...]:
    """Return the command of each host.

    Args:
        given: the member of the request with the entry point.
        member: its name, for the error message.
        image: the name of its field with the image, for the error message.

    Raises:
        JobFailure: the request names no entry point.
    """
    entrypoint = given.get("ContainerEntrypoint")
    if not entrypoint:
        raise JobFailure(
            f"ClientError: the image {given.get(image, '')} was to be started by its own entry point, which the process"
            f" runner cannot do: it does not pull images. Give {member}.ContainerEntrypoint, for example"
            ' ["python3", "/opt/ml/input/data/code/train.py"].'
        )
    return (*entrypoint, *given.get("ContainerArguments", []))


def input_of(name: str, source: Mapping[str, Any] | None, mode: str, path: str) -> Input:
    """Return an input of a job.

    Args:
        name: the name of the channel or of the processing input.
        source: the S3 data source of the request; None if the source is not S3.
        mode: the input mode.
        path: the directory in the container; empty if the request has none.

    Raises:
        JobFailure: the local SageMaker does not support this source or mode.
    """
    kind = source.get("S3DataType", "S3Prefix") if source else ""
    # FastFile mode shows the same files and reads them later, so that File mode can stand in for it (Developer Guide,
    # "Setting up training jobs to access datasets").
    if source is None or mode not in {"File", "FastFile"} or kind not in {"S3Prefix", "ManifestFile"} or not path:
        raise JobFailure(
            f"ClientError: the input {name} cannot be given to a job on this machine, which has S3 sources of the types"
            " S3Prefix and ManifestFile only, in the modes File and FastFile, with a LocalPath."
        )
    return Input(
        name=name,
        source=S3Location.parse(source["S3Uri"]),
        path=path,
        manifest=kind == "ManifestFile",
        sharded=source.get("S3DataDistributionType") == "ShardedByS3Key",
        groups=tuple(source.get("InstanceGroupNames", ())),
    )


def container_path(path: str) -> str:
    """Return a normalized absolute container path without a trailing slash.

    Raises:
        JobFailure: the path is relative, contains `..`, or is the root directory.
    """
    normal = posixpath.normpath(path)
    if not path.startswith("/") or normal.strip("/") == "" or ".." in path.split("/"):
        raise JobFailure(f"ClientError: the LocalPath {path!r} is not an absolute path of a directory.")
    return "/" + normal.lstrip("/")
