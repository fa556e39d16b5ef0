"""The ledger: records of a task's jobs, in S3 beside its data.

`_ledger/<fingerprint>.json` holds the attempts at one piece of work and the record of the completed one.
`_ledger/latest.json` holds the record of the newest completed job, for chaining by name. All writes are
compare-and-swap, so any number of processes may share a task. There is no database: the objects are the only records.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeVar

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from tasks_lib.aws.objects import Document, DocumentDamaged, Objects
from tasks_lib.errors import LedgerConflict
from tasks_lib.jobs.fingerprint import Ingredients
from tasks_lib.jobs.kinds import StoredKind
from tasks_lib.jobs.manifest import Manifest
from tasks_lib.jobs.metrics import MetricValue
from tasks_lib.jobs.s3_layout import Location, TaskFolder

_MOST_TRIES = 20
_ENTRY = re.compile(r"[0-9a-f]{64}\.json")
_logger = logging.getLogger("prefect.sagemaker")

CloseReason = Literal[
    "failed",
    "stopped",
    "capacity",
    "service fault",
    "forced",
    "clean_state",
    "outputs gone",
    "state changed",
    "inputs changed",
    "foreign job",
    "superseded",
]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class _Listing(_Model):
    items: list[Any]


_Document = TypeVar("_Document", bound=_Model)


class Record(_Model):
    """What a completed job did; written once and never changed.

    Args:
        job: The job's name.
        arn: Its ARN.
        created: When SageMaker created it, in epoch seconds. A later job may have the name of a deleted one.
        kind: Kind of job.
        fingerprint: The fingerprint of the work.
        attempt: Number of the attempt.
        ingredients: The fingerprint's ingredients.
        outputs: URI by output.
        output_listing: Digest of what the job left in its output folder.
        state_listing: Digest of what the job left in `state/`; None if it left nothing.
        metrics: Last value by metric.
        metric_history: All values, as (epoch seconds, value).
        metric_patterns: The expressions that found the metrics.
        seconds: From creation to end.
        billable_seconds: As SageMaker reports them; None if it does not.
        forced_in: The flow run that forced the job to run; None if it was not forced.
        reason: Why the job ran.
        previous: Fingerprint of the task's previous completed work; None if there was none.
        inputs: URI by channel.
        instance_type: The instance type that it ran on.
        instance_count: The number of hosts.
        phases: Seconds by phase.
    """

    job: str
    arn: str
    created: float
    kind: StoredKind
    fingerprint: str
    attempt: int
    ingredients: Ingredients
    outputs: dict[str, str]
    output_listing: str
    state_listing: str | None = None
    metrics: dict[str, MetricValue] = {}
    metric_history: dict[str, list[tuple[float, MetricValue]]] = {}
    metric_patterns: dict[str, str] = {}
    seconds: float | None = None
    billable_seconds: float | None = None
    forced_in: str | None = None
    reason: str = ""
    previous: str | None = None
    inputs: dict[str, str] = {}
    instance_type: str = ""
    instance_count: int | None = None
    phases: dict[str, float] = {}


class ClosedAttempt(_Model):
    """An attempt that has ended and will not be resumed."""

    attempt: int
    because: CloseReason
    flow_run: str | None = None


class Entry(_Model):
    """All attempts at one piece of work.

    Args:
        fingerprint: The fingerprint of the work.
        closed: The closed attempts.
        record: The record of the current attempt; None until it is completed.
    """

    fingerprint: str
    # The documents in S3 call it `spent`, so that existing ones stay readable.
    closed: tuple[ClosedAttempt, ...] = Field(
        default=(), validation_alias=AliasChoices("spent", "closed"), serialization_alias="spent"
    )
    record: Record | None = None

    @property
    def attempt(self) -> int:
        """Number of the current attempt, from 1."""
        return len(self.closed) + 1

    def close(self, because: CloseReason, flow_run: str | None = None) -> Entry:
        """Return the entry with its current attempt closed."""
        attempt = ClosedAttempt(attempt=self.attempt, because=because, flow_run=flow_run)
        return self.model_copy(update={"closed": (*self.closed, attempt), "record": None})

    def forced_by(self, flow_run: str | None) -> bool:
        """Whether a flow run has already had its forced attempt: a retry of it must not force another."""
        if flow_run is None:
            return False
        forced = [closed.flow_run for closed in self.closed if closed.because in ("forced", "clean_state")]
        # A forced run of new work closes no attempt; then its record names the flow run.
        return flow_run in [*forced, self.record and self.record.forced_in]

    def cleaned_by(self, flow_run: str | None) -> bool:
        """Whether a flow run has already emptied the state for this work.

        If so, its next attempt continues from what the last job left. The attempt of a job that ran after the emptying
        is closed in the same flow run, with a cause of its own.
        """
        if flow_run is None or not self.closed:
            return False
        last = self.closed[-1]
        return last.flow_run == flow_run and last.because not in ("forced", "clean_state")


class Ledger:
    """The records of one task.

    Args:
        objects: Access to S3.
        folder: The task's folder.
    """

    def __init__(self, objects: Objects, folder: TaskFolder) -> None:
        self._objects, self.folder = objects, folder

    def entry(self, fingerprint: str) -> Entry:
        """Return the entry of a piece of work; an empty entry if there is none."""
        return self._read_entry(fingerprint)[0]

    def close(self, fingerprint: str, attempt: int, because: CloseReason, flow_run: str | None = None) -> Entry:
        """Record that an attempt is over, so that the next one may begin.

        If it was closed already, nothing changes. The current entry is returned.
        """

        def change(entry: Entry) -> Entry:
            return entry.close(because, flow_run) if entry.attempt == attempt else entry

        return self._change(fingerprint, change)

    def complete(self, record: Record) -> Entry:
        """Record that the current attempt is completed, and that it is the task's newest.

        An attempt that was closed in the meantime stays closed.
        """

        def change(entry: Entry) -> Entry:
            if entry.attempt != record.attempt or entry.record is not None:
                return entry
            # Before the record: a process that dies in between leaves an attempt without one, and the next run adds it.
            self._update_latest(record)
            return entry.model_copy(update={"record": record})

        return self._change(record.fingerprint, change)

    def latest(self) -> Record | None:
        """Return the record of the task's newest completed job, or None. If `latest.json` is lost, read all entries."""
        record, _ = self._read(Record, self.folder.latest)
        return record or max(self._records(), key=lambda each: each.created, default=None)

    def _records(self) -> Iterator[Record]:
        for name, _ in self._objects.listing(self.folder.ledger):
            if _ENTRY.fullmatch(name):
                entry, _ = self._read(Entry, self.folder.ledger.below(name))
                if entry and entry.record:
                    yield entry.record

    def save_manifest(self, manifest: Manifest) -> None:
        """Save an input's listing under its digest, so that a later run can tell what changed."""
        self._objects.write_once(self.folder.manifest(manifest.digest), {"items": manifest.to_json()})

    def manifest(self, digest: str) -> Manifest | None:
        """Return a saved listing; None if it is missing or damaged.

        A reason to run then lacks the number of changes.
        """
        kept, _ = self._read(_Listing, self.folder.manifest(digest))
        try:
            return Manifest.from_json(kept.items) if kept else None
        except (KeyError, TypeError, ValueError):
            return None

    def _update_latest(self, record: Record) -> None:
        """Make `latest.json` hold this record unless it holds a newer one."""
        place = self.folder.latest
        for _ in range(_MOST_TRIES):
            found, etag = self._read(Record, place)
            if found and (found.created > record.created or found == record):
                return
            if self._objects.write(place, record.model_dump(mode="json", by_alias=True), etag=etag):
                return
        raise _conflict(place)

    def _read_entry(self, fingerprint: str) -> tuple[Entry, str | None]:
        entry, etag = self._read(Entry, self.folder.entry(fingerprint))
        return entry or Entry(fingerprint=fingerprint), etag

    def _read(self, model: type[_Document], place: Location) -> tuple[_Document | None, str | None]:
        """Return a document and its ETag. A damaged document counts as lost, but its ETag lets it be replaced.

        Its content is rebuilt from SageMaker, which knows the jobs by their names, and from the objects in S3.
        """
        try:
            found = self._objects.read(place)
            return (_validated(model, found, place), found.etag) if found else (None, None)
        except DocumentDamaged as error:
            _logger.warning("The record %s It is built again from SageMaker and the job's outputs.", error)
            return None, error.etag

    def _change(self, fingerprint: str, change: Callable[[Entry], Entry]) -> Entry:
        """Read, change and write an entry; repeat if another writer changed it in between."""
        place = self.folder.entry(fingerprint)
        for _ in range(_MOST_TRIES):
            entry, etag = self._read_entry(fingerprint)
            wanted = change(entry)
            if wanted == entry or self._objects.write(place, wanted.model_dump(mode="json", by_alias=True), etag=etag):
                return wanted
        raise _conflict(place)


def _validated(model: type[_Document], found: Document, place: Location) -> _Document:
    try:
        return model.model_validate(found.value)
    except ValidationError as error:
        wrong = ", ".join(sorted({str(each["loc"][0]) for each in error.errors() if each["loc"]}))
        raise DocumentDamaged(place, f"wrong or missing are {wrong}", found.etag) from error


def _conflict(place: Location) -> LedgerConflict:
    return LedgerConflict(
        f"{place.uri} was changed by other processes {_MOST_TRIES} times in a row.", fix="run again in a moment."
    )
