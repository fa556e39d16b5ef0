"""Events of job state changes, which SageMaker sends to EventBridge and rules forward to queues.

The server polls the table of jobs ten times a second, because most changes are written by supervisors, which are other
processes. It does nothing until moto is loaded or the journal has entries of EventBridge: only moto has rules and
queues. Changes that follow each other faster become one event. AWS may send several events for one change.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from local_sagemaker.job_table import JobTable
from local_sagemaker.jobs import Job
from local_sagemaker.kinds import KINDS, JobKind
from local_sagemaker.moto_services import MotoServices
from local_sagemaker.wire.call import Call
from local_sagemaker.wire.json_service import load_model

log = logging.getLogger(__name__)

_EVERY = 0.1  # seconds between ticks
_OVERLAP = 5.0  # seconds; a change gets its time before it is committed to the table
_AT_ONCE = 10  # entries; the most that PutEvents takes
_HTTP_ERROR = 400
_SECRETS = frozenset({"Environment"})

_State = tuple[str, str | None]


class EventPublisher:
    """Sends the events of one home.

    Args:
        jobs: the table of jobs.
        services: moto's services, for EventBridge.
        region: the region of the home.
        clock: returns epoch seconds.
    """

    def __init__(
        self, jobs: JobTable, services: MotoServices, region: str, clock: Callable[[], float] = time.time
    ) -> None:
        self._jobs, self._services, self._region, self._clock = jobs, services, region, clock
        self._looked = clock()
        self._told: dict[str, _State] = {}

    def start(self) -> None:
        """Start a daemon thread that calls `tick` until the process ends."""
        threading.Thread(target=self._work, name="events", daemon=True).start()

    def _work(self) -> None:
        pause = threading.Event()
        while True:
            try:
                self.tick()
            except Exception:  # the next tick may succeed
                log.exception("events could not be sent; trying again")
            pause.wait(_EVERY)

    def tick(self) -> None:
        """Send an event for each job that has changed since the last tick."""
        now = self._clock()
        if self._services.awake:
            entries = list(self._changes())
            for start in range(0, len(entries), _AT_ONCE):
                self._put(entries[start : start + _AT_ONCE])
        self._looked = now

    def _changes(self) -> Iterator[dict[str, Any]]:
        told: dict[str, _State] = {}
        for kind in KINDS.values():
            for job in self._jobs.list(kind.name, modified_after=self._looked - _OVERLAP, descending=False):
                told[job.arn] = job.status, job.secondary_status
                if self._told.get(job.arn) != told[job.arn]:
                    yield state_change(kind, job)
        self._told = told

    def _put(self, entries: list[dict[str, Any]]) -> None:
        answer = self._services.ask(
            Call(
                service="events",
                region=self._region,
                method="POST",
                path="/",
                headers={"content-type": "application/x-amz-json-1.1", "x-amz-target": "AWSEvents.PutEvents"},
                body=json.dumps({"Entries": entries}),
            )
        )
        if answer.status >= _HTTP_ERROR:
            log.error("EventBridge refuses events: %r", answer.body[:500])


def state_change(kind: JobKind, job: Job) -> dict[str, Any]:
    """Return a job's state as an entry of PutEvents.

    The names, and times in milliseconds, are those of SageMaker's developer guide, "Events that Amazon SageMaker AI
    sends to Amazon EventBridge". The guide's events have no `Environment`.
    """
    shape = load_model("sagemaker").operation_model(f"Describe{kind.noun}").output_shape
    described = {
        name: value
        for name, value in kind.describe(job).items()
        if name in shape.members and name not in _SECRETS and value is not None
    }
    return {
        "Source": "aws.sagemaker",
        "DetailType": kind.event_type,
        "Time": job.modified,
        "Resources": [job.arn],
        "Detail": json.dumps(_in_milliseconds({**described, "Tags": job.tags})),
    }


def _in_milliseconds(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _in_milliseconds(each, key) for key, each in value.items()}
    if isinstance(value, list):
        return [_in_milliseconds(each) for each in value]
    return int(value * 1000) if name.endswith("Time") and isinstance(value, float) else value
