"""What a call amounts to: its inputs as they are found now, and the fingerprint of all that determines the result."""

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
        source: Its code; None where the image runs as it is.
        inputs: Its inputs, found and listed.
        folder: The task's folder in S3.
        ingredients: What the fingerprint is made of.
        fingerprint: The work.
    """

    spec: JobSpec
    source: Source | None
    inputs: ResolvedInputs
    folder: TaskFolder
    ingredients: Ingredients
    fingerprint: str

    def job_name(self, attempt: int) -> str:
        """Return the name of the job of an attempt."""
        return job_name(self.spec.task, self.folder.uri, self.fingerprint, attempt, limit=self.spec.kind.name_limit)


def resolve(call: Call, backend: Backend) -> Step:
    """Find and list the inputs of a call.

    Raises:
        InvalidTask: An input is not there, or cannot be one.
    """
    folder = backend.folder(call.spec.task)
    inputs = InputResolver(backend, folder).resolve(call.inputs)
    manifest = call.source.manifest if call.source else None
    parts = ingredients(call.spec, manifest, inputs.channels, toolkit().contract)
    return Step(call.spec, call.source, inputs, folder, parts, fingerprint(parts))
