"""The URIs of a job's outputs."""

from __future__ import annotations

from collections.abc import Collection

from tasks_lib.jobs.s3_layout import TaskFolder
from tasks_lib.jobs.spec import JobSpec
from worker_toolkit.contract import SOURCE_ARCHIVE


def outputs_of(
    spec: JobSpec, folder: TaskFolder, job: str, left: Collection[str], *, bundle_uri: str | None, has_state: bool
) -> dict[str, str]:
    """Return the URI of each output that exists, by name.

    Args:
        spec: The job.
        folder: The task's folder.
        job: The job's name.
        left: Names of the objects in the job's output folder.
        bundle_uri: URI of the code's bundle; None if the image ran as it is.
        has_state: Whether the task's state directory holds any object.
    """
    outputs = spec.kind.existing_outputs(folder.output(job).uri, left)
    if has_state:
        outputs["state"] = folder.state.uri
    if bundle_uri:
        outputs["source"] = f"{bundle_uri}{SOURCE_ARCHIVE}"
    return outputs
