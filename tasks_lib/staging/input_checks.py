"""Whether inputs are still there before a job, and stood still while it ran."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from tasks_lib.aws.objects import Objects
from tasks_lib.errors import InputNotReady, InputsChanged
from tasks_lib.jobs.s3_layout import Location
from tasks_lib.jobs.spec import ResolvedChannel


def check_are_there(
    task: str, channels: Collection[ResolvedChannel], objects: Objects, *, to_come: Collection[str] = ()
) -> None:
    """See that what other tasks left is still in S3; what was listed for the fingerprint was seen already.

    Args:
        task: The task's name.
        channels: Its inputs.
        objects: Access to S3.
        to_come: The channels whose jobs have not run.

    Raises:
        InputNotReady: One is gone.
    """
    for channel in channels:
        listed = channel.manifest is not None or channel.name in to_come
        if not listed and not len(objects.listing(Location.parse(channel.uri))):
            raise InputNotReady(
                f"The input {channel.name!r} of task {task!r} is gone: nothing is at {channel.uri}.",
                fix="run the task that makes it: it sees that its output is gone, and runs again.",
            )


def changes_meanwhile(
    task: str, job: str, channels: Collection[ResolvedChannel], objects: Objects
) -> Iterator[InputsChanged]:
    """Yield an error for each input that others own and that is not what it was when the job was asked for."""
    for channel in channels:
        if not channel.foreign or channel.manifest is None:
            continue
        changed = objects.listing(Location.parse(channel.uri)).changed(channel.manifest)
        if changed:
            yield InputsChanged(
                f"The input {channel.name!r} of task {task!r} changed while job {job} was reading it: "
                f"{len(changed)} object(s), such as {channel.uri}{changed[0]}. Its result is not recorded.",
                fix="run again when nobody writes there any more.",
            )
