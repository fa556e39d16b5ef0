"""Receives SageMaker's job state changes, which EventBridge sends to a queue in SQS.

An event is only a hint that makes the watcher describe the job at once. An event can be lost, late, or received by
another process. So the watcher also asks SageMaker about each job once a minute.

If the queue is throttled, forbidden or missing, this is logged once. Until it answers again, the watcher asks SageMaker
as if there were no queue.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blocks import SageMakerProject
from tasks_lib.jobs.kinds import KINDS, JobKind

if TYPE_CHECKING:
    from types_boto3_sqs import SQSClient
    from types_boto3_sqs.type_defs import DeleteMessageBatchRequestEntryTypeDef, MessageTypeDef

_logger = logging.getLogger("prefect.sagemaker")

_WAIT = 20  # seconds; the longest poll of SQS
_MAX_MESSAGES = 10  # messages; the most that SQS returns
_VISIBILITY_TIMEOUT = 5  # seconds until another process may receive a message that this one leaves
_MAX_RECEIVES = 24  # receives, which take at least two minutes; after that no process waits for the job
_RETRY, _LONGEST_RETRY = 1.0, 60.0


@dataclass(frozen=True)
class StateChange:
    """The state change that an event reports.

    Args:
        kind: Kind of job.
        name: The job's name.
        status: SageMaker's status of the job.
    """

    kind: JobKind
    name: str
    status: str

    @property
    def is_end(self) -> bool:
        """Whether the job has ended."""
        return self.kind.phase_of(self.status).terminal


def read_event(body: str) -> StateChange | None:
    """Return the state change in a message; None if it is not about a job.

    The format is in SageMaker's developer guide, "Events that Amazon SageMaker AI sends to Amazon EventBridge".
    """
    try:
        event = json.loads(body)
        (kind,) = (kind for kind in KINDS.values() if kind.event_type == event["detail-type"])
        name, status = event["detail"][kind.api.name], event["detail"][kind.api.status]
    except (ValueError, KeyError, TypeError):
        return None
    return StateChange(kind, str(name), str(status))


class EventListener:
    """A thread that receives events from one queue for as long as jobs are waited for.

    Several processes may share a queue.

    Args:
        project: The project whose credentials are used.
        url: The queue's URL.
        hear: Take in a state change; return whether this process waits for that job.
        is_wanted: Return whether this process waits for any job.
        changed: Called when the queue starts or stops answering.
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
        """Start the thread if it is not running."""
        with self._lock:
            if not self._listening:
                self._listening = True
                threading.Thread(target=self._run, name="sagemaker-events", daemon=True).start()

    def _run(self) -> None:
        while self._should_continue():
            try:
                self._receive()
            except Exception as error:  # noqa: BLE001, PERF203 - the watcher would go on to rely on a dead thread
                self._back_off_after(error)
            else:
                self._note(answers=True)

    def _should_continue(self) -> bool:
        """Return whether any job is still waited for. If not, mark the thread as ended under the same lock."""
        with self._lock:
            self._listening = self._is_wanted()
            return self._listening

    def _receive(self) -> None:
        answer = self._api.receive_message(
            QueueUrl=self._url,
            MaxNumberOfMessages=_MAX_MESSAGES,
            WaitTimeSeconds=_WAIT,
            VisibilityTimeout=_VISIBILITY_TIMEOUT,
            AttributeNames=["ApproximateReceiveCount"],
        )
        self._delete([message for message in answer.get("Messages", ()) if self._is_done_with(message)])

    def _is_done_with(self, message: MessageTypeDef) -> bool:
        change = read_event(message["Body"])
        if change and self._hear(change):
            return True
        # Another process may wait for the job, so the message is left to it, but not for ever. Its age is counted in
        # receives and not told from the time it was sent: this machine's clock may differ from AWS's.
        return int(message["Attributes"]["ApproximateReceiveCount"]) >= _MAX_RECEIVES

    def _delete(self, messages: Iterable[MessageTypeDef]) -> None:
        entries: list[DeleteMessageBatchRequestEntryTypeDef] = [
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

    def _back_off_after(self, error: Exception) -> None:
        if not self._told:
            self._told = True
            _logger.warning("The events of %s cannot be received; SageMaker is asked instead: %s", self._url, error)
        self._note(answers=False)
        self._retry = min(_LONGEST_RETRY, max(_RETRY, self._retry * 2))
        self._sleep(self._retry)

    @property
    def _api(self) -> SQSClient:
        # Ask the project each time: it replaces its clients when credentials have expired.
        return self._project.client("sqs")
