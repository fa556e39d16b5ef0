"""Where the outputs of a job are."""

from __future__ import annotations

from collections.abc import Collection

from tasks_lib.jobs.spec import JobPlace, JobSpec


def outputs_of(spec: JobSpec, place: JobPlace, left: Collection[str], *, has_state: bool) -> dict[str, str]:
    """Return the URI of each output that exists, by name.

    Args:
        spec: The job.
        place: Where it ran.
        left: Names of the objects in its output folder.
        has_state: Whether there is anything in the task's state.
    """
    outputs = spec.kind.outputs_left(f"{place.task_uri}{place.job}/output/", left)
    if has_state:
        outputs["state"] = f"{place.task_uri}state/"
    if place.bundle_uri:
        outputs["source"] = f"{place.bundle_uri}source.tar.gz"
    return outputs
