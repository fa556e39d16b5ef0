"""The step of a call: its inputs as they are now, and the fingerprint of all that determines the result."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from tasks_lib.backend import Backend
from tasks_lib.errors import DuplicateTask
from tasks_lib.jobs.fingerprint import Ingredients, differences, fingerprint, ingredients
from tasks_lib.jobs.naming import job_name
from tasks_lib.jobs.s3_layout import TaskFolder
from tasks_lib.jobs.spec import JobSpec
from tasks_lib.prefect_runtime.run_context import RunContext
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


_MOST_REMEMBERED = 100_000


@dataclass(frozen=True)
class _Call:
    task_run: str
    ingredients: Ingredients


_calls: OrderedDict[tuple[str, int, str], _Call] = OrderedDict()
_lock = threading.Lock()


def check_call(run: RunContext, task_uri: str, work: Ingredients) -> None:
    """Remember a call, and refuse a second call of the same name with different work.

    Raises:
        DuplicateTask: The work differs. The message names both calls and the differences.
    """
    if run.flow_run is None:
        return
    # A retry of the flow run repeats all calls, and may find other inputs.
    key = (run.flow_run, run.flow_try, task_uri)
    call = _Call(run.task_run, work)
    with _lock:
        first = _calls.setdefault(key, call)
        if first.task_run == run.task_run:  # a retry of the task run may find other inputs, too
            _calls[key] = first = call
        while len(_calls) > _MOST_REMEMBERED:
            _calls.popitem(last=False)
    if fingerprint(first.ingredients) != fingerprint(work):
        raise DuplicateTask(
            f"{task_uri} was called twice in one flow run with different work: task run {first.task_run} and "
            f"task run {run.task_run} differ in: {'; '.join(differences(first.ingredients, work))}.",
            fix="give each piece of work a name of its own, such as fit-C0.1 and fit-C1.0.",
            parts=[part for part, value in work.items() if first.ingredients.get(part) != value],
        )
