"""Channels: the inputs of a task, as its author writes them. Pure.

A channel's source is a local path, an S3 URI, or an output of another task, given by its future, result or name.
Channels are dataclasses: Prefect resolves the futures inside of them, and draws the edges of the graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from tasks_lib.errors import InvalidInput
from tasks_lib.jobs.kind import JobKind, OutputName
from tasks_lib.jobs.naming import check_variables

Distribution = Literal["FullyReplicated", "ShardedByS3Key"]


@dataclass(frozen=True)
class Channel:
    """An input from a local path or an S3 URI.

    Args:
        source: A file or directory of this machine, or `s3://bucket/prefix`.
        distribution: `FullyReplicated` (default) gives each host everything. `ShardedByS3Key` gives host i of n the
            objects i, i + n, … in the order of their keys.
        subdir: A directory below the source to read; by default all of it.
    """

    source: str | Path
    distribution: Distribution = "FullyReplicated"
    subdir: str = ""

    @property
    def is_s3(self) -> bool:
        """Whether the source is an S3 URI."""
        return str(self.source).startswith("s3://")


@dataclass(frozen=True)
class TaskOutput:
    """An input from an output of another task; `output_of` makes it."""

    source: Any
    output: OutputName | None = None
    subdir: str = ""
    extract: bool = False
    distribution: Distribution = "FullyReplicated"
    project: str | None = None


def output_of(
    source: Any,
    output: OutputName | None = None,
    *,
    subdir: str = "",
    extract: bool = False,
    distribution: Distribution = "FullyReplicated",
    project: str | None = None,
) -> TaskOutput:
    """Use an output of another task as an input.

    Args:
        source: The other task: its future, its `JobResult`, or its name.
        output: `model`, `output`, `state` or `source`; by default the model of a training task, and the output of a
            processing task.
        subdir: A directory inside the output. Inside a tarball it needs `extract`.
        extract: Unpack a tarball such as `model.tar.gz` before the code starts.
        distribution: See `Channel`.
        project: The project of a task that is given by name, with the same bucket and prefix; by default this one.

    Raises:
        InvalidInput: The output is unknown, `subdir` leaves it, or `project` is given without a task's name.
    """
    if output is not None and output not in get_args(OutputName):
        raise InvalidInput(f"There is no output {output!r}.", fix=f"use one of {', '.join(get_args(OutputName))}.")
    if project is not None and not isinstance(source, str):
        raise InvalidInput(
            f"output_of(…, project={project!r}) needs a task's name, not something of type {type(source).__name__}.",
            fix="leave the project out: a future or a result knows its own.",
        )
    return TaskOutput(source, output, _clean_subdir(subdir), extract, distribution, project)


def as_channel(name: str, value: Any) -> Channel | TaskOutput:
    """Return the channel for an entry of `inputs`.

    Raises:
        InvalidInput: The value is not a path, URI or output, its distribution is unknown, or its `subdir` has `.` or
            `..`.
    """
    channel = Channel(value) if isinstance(value, (str, Path)) else value
    if not isinstance(channel, (Channel, TaskOutput)) or not _is_readable(channel):
        raise InvalidInput(
            f"Input {name!r} is of type {type(value).__name__}, not something to read.",
            fix="give a local path, an s3:// URI, Channel(path, distribution=…), or output_of(task).",
        )
    if channel.distribution not in get_args(Distribution):
        raise InvalidInput(
            f"Input {name!r} has the distribution {channel.distribution!r}.",
            fix=f"use one of {', '.join(get_args(Distribution))}.",
        )
    return replace(channel, subdir=_clean_subdir(channel.subdir))


def as_channels(inputs: Mapping[str, Any] | None) -> dict[str, Channel | TaskOutput]:
    """Return all channels of a task by name.

    Raises:
        InvalidInput: `inputs` is not a mapping, a name is not a `str`, or a value is not a channel.
        InvalidName: Two names would share a variable in the job.
    """
    if inputs is not None and not isinstance(inputs, Mapping):
        raise InvalidInput(
            f"inputs is of type {type(inputs).__name__}, not channels by name.",
            fix="give a dict: {'train': 'data/train'}.",
        )
    for name in inputs or {}:
        if not isinstance(name, str):
            raise InvalidInput(f"An input is named {name!r}.", fix="name it by a text.")
    check_variables("inputs", "SM_CHANNEL_", inputs or {})
    return {name: as_channel(name, value) for name, value in (inputs or {}).items()}


def output_place(name: str, wanted: TaskOutput, kind: JobKind, outputs: Mapping[str, str]) -> tuple[OutputName, str]:
    """Return which output of a completed job a channel reads, and its URI.

    The URI of a directory includes the `subdir` and ends in `/`. The URI of a tarball is the object itself, and its
    `subdir` is resolved after unpacking.

    Raises:
        InvalidInput: The job has no such output, `subdir` is given for a tarball without `extract`, or `extract` for a
            directory.
    """
    output = wanted.output or kind.default_output
    if output not in outputs:
        raise InvalidInput(
            f"Input {name!r} asks for the {output!r} of a {kind} task that has none.",
            fix=f"use one of {', '.join(sorted(outputs))}.",
        )
    packed = is_tarball(outputs[output])
    if packed and wanted.subdir and not wanted.extract:
        raise InvalidInput(
            f"Input {name!r} asks for {wanted.subdir!r} inside {outputs[output]}, which is packed.",
            fix="add extract=True.",
        )
    if wanted.extract and not packed:
        raise InvalidInput(
            f"Input {name!r} asks to unpack the {output!r} of a {kind} task, which is a directory.",
            fix="leave extract out.",
        )
    subdir = f"{wanted.subdir}/" if wanted.subdir and not packed else ""
    return output, outputs[output] + subdir


def is_tarball(uri: str) -> bool:
    """Return whether an output is a tarball; with `CompressionType` `NONE`, a training job's output is a prefix."""
    return uri.endswith(".tar.gz")


def _is_readable(channel: Channel | TaskOutput) -> bool:
    return isinstance(channel, TaskOutput) or isinstance(channel.source, (str, Path))


def _clean_subdir(subdir: str) -> str:
    parts = [part for part in subdir.split("/") if part]
    if ".." in parts or "." in parts:
        raise InvalidInput(f"The subdir {subdir!r} leaves its output.", fix="give a plain path below the output.")
    return "/".join(parts)
