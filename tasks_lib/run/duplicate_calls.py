"""Check that a flow run calls one task name with one piece of work only.

Two calls of one name with different work would take turns at one state directory and one `latest.json`, which is never
intended. The same work twice is allowed: it is one job.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from tasks_lib.errors import DuplicateTask
from tasks_lib.jobs.fingerprint import Ingredients, differences, fingerprint
from tasks_lib.prefect_runtime.run_context import RunContext

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
