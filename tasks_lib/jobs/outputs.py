"""Where the outputs of a job are."""

from __future__ import annotations

from collections.abc import Collection

from tasks_lib.jobs.s3_layout import SOURCE_ARCHIVE
from tasks_lib.jobs.spec import JobPlace, JobSpec


def outputs_of(spec: JobSpec, place: JobPlace, left: Collection[str], *, has_state: bool) -> dict[str, str]:
    """Return the URI of each output that exists, by name.

    Args:
        spec: The job.
        place: Where it ran.
        left: Names of the objects in its output folder.
        has_state: Whether there is anything in the task's state.
    """
    outputs = spec.kind.outputs_left(place.folder.output(place.job).uri, left)
    if has_state:
        outputs["state"] = place.folder.state.uri
    if place.bundle_uri:
        outputs["source"] = f"{place.bundle_uri}{SOURCE_ARCHIVE}"
    return outputs
