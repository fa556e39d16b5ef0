"""The step of a call: its inputs as they are now, and the fingerprint of all that determines the result."""

from __future__ import annotations

from dataclasses import dataclass

from tasks_lib.backend import Backend
from tasks_lib.jobs.fingerprint import Ingredients, fingerprint, ingredients
from tasks_lib.jobs.naming import job_name
from tasks_lib.jobs.s3_layout import TaskFolder
from tasks_lib.jobs.spec import JobSpec
from tasks_lib.run.prepare import Call
from tasks_lib.staging.inputs import InputResolver, ResolvedInputs
from tasks_lib.staging.source import Source, toolkit


@dataclass(frozen=True)
class Step:
    """One piece of work.

    Args:
        spec: The job.
        source: Its code; None if the image runs as it is.
        inputs: Its inputs, resolved and listed.
        folder: The task's folder in S3.
        ingredients: The ingredients of the fingerprint.
        fingerprint: The fingerprint of the work.
    """

    spec: JobSpec
    source: Source | None
    inputs: ResolvedInputs
    folder: TaskFolder
    ingredients: Ingredients
    fingerprint: str

    def job_name(self, attempt: int) -> str:
        """Return the job name of an attempt."""
        return job_name(self.spec.task, self.folder.uri, self.fingerprint, attempt, limit=self.spec.kind.name_limit)


def resolve(call: Call, backend: Backend) -> Step:
    """Resolve and list the inputs of a call, and take the fingerprint.

    Raises:
        InvalidTask: An input does not exist or is invalid.
    """
    folder = backend.folder(call.spec.task)
    inputs = InputResolver(backend, folder).resolve(call.inputs)
    manifest = call.source.manifest if call.source else None
    parts = ingredients(call.spec, manifest, inputs.channels, toolkit().contract)
    return Step(call.spec, call.source, inputs, folder, parts, fingerprint(parts))
