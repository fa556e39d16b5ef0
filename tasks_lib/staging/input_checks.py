"""Checks that a job's inputs exist before it, and did not change while it ran."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from tasks_lib.aws.objects import Objects
from tasks_lib.errors import InputNotReady, InputsChanged
from tasks_lib.jobs.s3_layout import Location
from tasks_lib.jobs.spec import ResolvedChannel


def check_inputs_exist(
    task: str, channels: Collection[ResolvedChannel], objects: Objects, *, to_come: Collection[str] = ()
) -> None:
    """Check that the outputs of other tasks are still in S3.

    Inputs that were listed for the fingerprint are not checked again.

    Args:
        task: The task's name.
        channels: Its inputs.
        objects: Access to S3.
        to_come: Names of channels whose producing jobs have not run yet; default none.

    Raises:
        InputNotReady: An input is gone.
    """
    for channel in channels:
        listed = channel.manifest is not None or channel.name in to_come
        if not listed and not len(objects.listing(Location.parse(channel.uri))):
            raise InputNotReady(
                f"The input {channel.name!r} of task {task!r} is gone: nothing is at {channel.uri}.",
                fix="run the task that makes it: it sees that its output is gone, and runs again.",
            )


def changed_inputs(
    task: str, job: str, channels: Collection[ResolvedChannel], objects: Objects
) -> Iterator[InputsChanged]:
    """Yield an error for each foreign input whose listing differs from the one in the fingerprint."""
    for channel in channels:
        if not channel.foreign or channel.manifest is None:
            continue
        changed = objects.listing(Location.parse(channel.uri)).changed(channel.manifest)
        if changed:
            yield InputsChanged(
                f"The input {channel.name!r} of task {task!r} changed while job {job} was reading it: "
                f"{len(changed)} object(s), such as {channel.uri}{changed[0]}. Its result is not recorded.",
                fix="run again when that input no longer changes.",
            )
