"""A job's request, read once into what the runtime needs: hosts, command, inputs, outputs, limits.

Training and processing say the same things in different words; behind this module they look alike. Pure: no I/O.
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
GROUP_OF_ALL = "homogeneousCluster"  # the name AWS gives to the only group of a job without `InstanceGroups`


class JobFailure(Exception):
    """The job cannot go on; the text is its `FailureReason`."""


@dataclass(frozen=True)
class Place:
    """An S3 location.

    Attributes:
        bucket: the bucket.
        key: a key or the beginning of keys; may be empty.
    """

    bucket: str
    key: str

    @classmethod
    def parse(cls, uri: str) -> Place:
        """Read `s3://bucket/key`.

        Raises:
            JobFailure: it is something else.
        """
        scheme, _, rest = uri.partition("://")
        bucket, _, key = rest.partition("/")
        if scheme != "s3" or not bucket:
            raise JobFailure(f"ClientError: {uri!r} is not an S3 URI; write s3://bucket/key.")
        return cls(bucket, key)

    def below(self, name: str) -> str:
        """Return the key of `name` inside this location, which is taken as a folder with or without its slash."""
        return f"{self.key.rstrip('/')}/{name}" if self.key.rstrip("/") else name

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True)
class Input:
    """Objects that are copied to a directory of the hosts before the command starts.

    Attributes:
        name: the channel's or the input's name.
        source: where the objects are.
        path: the directory in the container.
        manifest: whether `source` is a manifest that lists the objects.
        sharded: whether each host gets its share only (`ShardedByS3Key`).
        required: whether the job fails when there is no object (a checkpoint may be missing).
        groups: the instance groups that get it; empty means all.
    """

    name: str
    source: Place
    path: str
    manifest: bool = False
    sharded: bool = False
    required: bool = True
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Output:
    """A directory of the hosts whose files are copied to S3, while the job runs (`continuous`) or at its end."""

    target: Place
    path: str
    continuous: bool


@dataclass(frozen=True)
class Archives:
    """Where a training job's model and output go, and whether as `tar.gz`."""

    target: Place
    compressed: bool

    @property
    def model(self) -> Place:
        """What `ModelArtifacts.S3ModelArtifacts` names."""
        return self._at("model.tar.gz" if self.compressed else "model/")

    @property
    def output(self) -> Place:
        """The same for `/opt/ml/output/data`."""
        return self._at("output.tar.gz" if self.compressed else "data/")

    def _at(self, name: str) -> Place:
        return Place(self.target.bucket, self.target.below(f"output/{name}"))


@dataclass(frozen=True)
class RuntimeSpec:
    """All that the runtime needs to know of a job.

    Attributes:
        hosts: `algo-1` and on.
        groups: instance group -> (instance type, its hosts).
        command: what each host runs.
        environment: the request's own variables.
        inputs: what comes in, checkpoints included.
        outputs: what goes out file by file.
        archives: what goes out as a training job's artifacts; None for processing.
        max_runtime: seconds from the start.
        max_wait: seconds from the creation; None without spot instances.
        volume_gb: what each host may use of the disk.
        metrics: the `MetricDefinitions`.
    """

    hosts: tuple[str, ...]
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

    def group_of(self, host: str) -> str:
        """Return the instance group of a host."""
        return next(group for group, (_, hosts) in self.groups.items() if host in hosts)

    def receivers(self, source: Input) -> tuple[str, ...]:
        """Return the hosts that get an input."""
        return tuple(host for host in self.hosts if not source.groups or self.group_of(host) in source.groups)

    @property
    def directories(self) -> tuple[str, ...]:
        """The container paths that exist when the command starts."""
        fixed = ("/opt/ml/input/data", MODEL, OUTPUT_DATA) if self.archives else ("/opt/ml/output",)
        return (*fixed, *(one.path for one in self.inputs), *(one.path for one in self.outputs))


def volume_of(cluster: Mapping[str, Any]) -> float:
    """Return what each host may use of the disk, in GB."""
    return float(cluster.get("VolumeSizeInGB", math.inf))


def groups_of(cluster: Mapping[str, Any]) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return type and hosts of each instance group."""
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
    """Return what a host runs.

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

    Raises:
        JobFailure: there is no such source or mode on this machine.
    """
    kind = source.get("S3DataType", "S3Prefix") if source else ""
    # FastFile shows the same files, only read later (Developer Guide, "Setting up training jobs to access datasets").
    if source is None or mode not in {"File", "FastFile"} or kind not in {"S3Prefix", "ManifestFile"} or not path:
        raise JobFailure(
            f"ClientError: the input {name} cannot be given to a job on this machine, which has S3 sources of the types"
            " S3Prefix and ManifestFile only, in the modes File and FastFile, with a LocalPath."
        )
    return Input(
        name=name,
        source=Place.parse(source["S3Uri"]),
        path=path,
        manifest=kind == "ManifestFile",
        sharded=source.get("S3DataDistributionType") == "ShardedByS3Key",
        groups=tuple(source.get("InstanceGroupNames", ())),
    )


def container_path(path: str) -> str:
    """Return an absolute container path without trailing slash.

    Raises:
        JobFailure: it is relative, climbs, or is the root itself.
    """
    normal = posixpath.normpath(path)
    if not path.startswith("/") or normal.strip("/") == "" or ".." in path.split("/"):
        raise JobFailure(f"ClientError: the LocalPath {path!r} is not an absolute path of a directory.")
    return "/" + normal.lstrip("/")
