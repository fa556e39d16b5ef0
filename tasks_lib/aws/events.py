"""SageMaker's own word that a job has changed: EventBridge sends it to a queue in SQS, and we listen there.

Only a hint that hurries the watcher, never the truth: it has the job described, and goes on looking once a minute,
since an event can be lost, late, or taken by somebody else. A queue that is throttled, forbidden or gone is said once;
until it answers again, the watcher asks as if there were none.

Several processes may share a queue. What is about a job that somebody waits for here is deleted. Anything else is left:
it is hidden from all for a few seconds, then seen by whoever asks next, and deleted after two minutes' worth of that,
since then nobody waits for it. Not told from the time it was sent: our clock may differ from AWS's.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from blocks import SageMakerProject
from tasks_lib.jobs.kinds import KINDS, JobKind

_logger = logging.getLogger("prefect.sagemaker")

_WAIT = 20  # seconds; the longest poll that SQS knows
_AT_ONCE = 10  # messages; as many as SQS hands out
_HIDDEN = 5  # seconds
_SEEN_OFTEN_ENOUGH = 24
_RETRY, _LONGEST_RETRY = 1.0, 60.0


@dataclass(frozen=True)
class StateChange:
    """What an event says.

    Args:
        kind: Kind of job.
        name: The job's name.
        status: SageMaker's word.
    """

    kind: JobKind
    name: str
    status: str

    @property
    def is_end(self) -> bool:
        """Whether the job will not change again."""
        return self.kind.phase_of(self.status).terminal


def read_event(body: str) -> StateChange | None:
    """Return what a message says; `None` for one that is no job's state change.

    The format is in SageMaker's developer guide, "Events that Amazon SageMaker AI sends to Amazon EventBridge".
    """
    try:
        event = json.loads(body)
        (kind,) = (kind for kind in KINDS.values() if kind.event_type == event["detail-type"])
        name, status = event["detail"][kind.api.name], event["detail"][kind.api.status]
    except (ValueError, KeyError, TypeError):
        return None
    return StateChange(kind, str(name), str(status))


class EventQueue:
    """Listens to one queue, in a thread of its own, for as long as somebody waits.

    Args:
        project: Whose account.
        url: The queue's URL.
        hear: Takes in a state change; tells whether somebody here waits for that job.
        is_wanted: Tells whether anybody waits for anything.
        changed: Called when the queue begins or ceases to answer.
        sleep: Pauses after a failure.
    """

    def __init__(
        self,
        project: SageMakerProject,
        url: str,
        *,
        hear: Callable[[StateChange], bool],
        is_wanted: Callable[[], bool],
        changed: Callable[[], None],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._project, self._url = project, url
        self._hear, self._is_wanted, self._changed = hear, is_wanted, changed
        self._sleep = sleep
        self._lock = threading.Lock()
        self._listening = self._told = False
        self._retry = 0.0
        self.answers = True

    def listen(self) -> None:
        """See that somebody listens."""
        with self._lock:
            if not self._listening:
                self._listening = True
                threading.Thread(target=self._run, name="sagemaker-events", daemon=True).start()

    def _run(self) -> None:
        while self._goes_on():
            try:
                self._receive()
            except Exception as error:  # noqa: BLE001, PERF203 - if the thread died, the watcher would rely on it in vain
                self._bear(error)
            else:
                self._note(answers=True)

    def _goes_on(self) -> bool:
        """Tell whether somebody still waits; otherwise the thread ends in the same breath."""
        with self._lock:
            self._listening = self._is_wanted()
            return self._listening

    def _receive(self) -> None:
        answer = self._api.receive_message(
            QueueUrl=self._url,
            MaxNumberOfMessages=_AT_ONCE,
            WaitTimeSeconds=_WAIT,
            VisibilityTimeout=_HIDDEN,
            AttributeNames=["ApproximateReceiveCount"],
        )
        self._delete([message for message in answer.get("Messages", ()) if self._is_done_with(message)])

    def _is_done_with(self, message: dict[str, Any]) -> bool:
        change = read_event(message["Body"])
        if change and self._hear(change):
            return True
        return int(message["Attributes"]["ApproximateReceiveCount"]) >= _SEEN_OFTEN_ENOUGH

    def _delete(self, messages: Iterable[dict[str, Any]]) -> None:
        entries = [
            {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]} for number, message in enumerate(messages)
        ]
        if entries:
            self._api.delete_message_batch(QueueUrl=self._url, Entries=entries)

    def _note(self, *, answers: bool) -> None:
        if answers:
            self._retry = 0.0
        if answers != self.answers:
            self.answers = answers
            self._changed()

    def _bear(self, error: Exception) -> None:
        if not self._told:
            self._told = True
            _logger.warning("The events of %s cannot be received; SageMaker is asked instead: %s", self._url, error)
        self._note(answers=False)
        self._retry = min(_LONGEST_RETRY, max(_RETRY, self._retry * 2))
        self._sleep(self._retry)

    @property
    def _api(self) -> Any:
        # Asked for at every call: clients are made anew when credentials have expired.
        return self._project.client("sqs")
