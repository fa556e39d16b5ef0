"""The ledger: our own records of a task's jobs, in S3 beside its data.

`_ledger/<fingerprint>.json` holds the attempts at one piece of work and the record of the one that was completed;
`_ledger/latest.json` names the newest completed job, for chaining by name. All writes compare and swap, so any number
of processes may share a task. No database: the objects are the truth, next to what they are about.
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


_Kept = TypeVar("_Kept", bound=_Model)


class Record(_Model):
    """What a completed job did; written once and never changed.

    Args:
        job: The job's name.
        arn: Its ARN.
        created: When SageMaker created it, epoch seconds: a deleted job frees its name for another.
        kind: Kind of job.
        fingerprint: The work.
        attempt: Which attempt it was.
        ingredients: What the fingerprint was made of.
        outputs: URI by output.
        output_listing: Digest of what the job left in its output folder.
        state_listing: Digest of what the job left in `state/`; none where it left nothing.
        metrics: Last value by metric.
        metric_history: All values, as (epoch seconds, value).
        metric_patterns: The expressions that these were read with.
        seconds: From creation to end.
        billable_seconds: As SageMaker counts them, where it does.
        forced_in: The flow run that had asked for it in any case; none where nobody had.
        reason: Why the job ran.
        previous: Fingerprint of the work that the task had completed before, where it had.
        inputs: URI by channel.
        instance_type: What it ran on.
        instance_count: On how many hosts.
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
    """An attempt that is over and will not be taken up again."""

    attempt: int
    because: CloseReason
    flow_run: str | None = None


class Entry(_Model):
    """All attempts at one piece of work.

    Args:
        fingerprint: The work.
        closed: The attempts that are over.
        record: The record of the current attempt, once it is completed.
    """

    fingerprint: str
    # The documents in S3 say `spent`, and those that are there stay readable.
    closed: tuple[ClosedAttempt, ...] = Field(
        default=(), validation_alias=AliasChoices("spent", "closed"), serialization_alias="spent"
    )
    record: Record | None = None

    @property
    def attempt(self) -> int:
        """Number of the current attempt, from 1."""
        return len(self.closed) + 1

    def close(self, because: CloseReason, flow_run: str | None = None) -> Entry:
        """Return the entry as it is when its current attempt is over."""
        attempt = ClosedAttempt(attempt=self.attempt, because=because, flow_run=flow_run)
        return self.model_copy(update={"closed": (*self.closed, attempt), "record": None})

    def forced_by(self, flow_run: str | None) -> bool:
        """Whether a flow run has already had its forced attempt: its retry must not make another."""
        if flow_run is None:
            return False
        forced = [closed.flow_run for closed in self.closed if closed.because in ("forced", "clean_state")]
        # A forced run of work that was never done spends nothing: then its own record tells of it.
        return flow_run in [*forced, self.record and self.record.forced_in]

    def cleaned_by(self, flow_run: str | None) -> bool:
        """Whether a flow run has emptied the state for this work already: its next attempt goes on from what was left.

        After the emptying comes a job, and after that, if there is to be another, its attempt is closed.
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
        """Return the entry of a piece of work; an empty one where nothing is known of it."""
        return self._read_entry(fingerprint)[0]

    def close(self, fingerprint: str, attempt: int, because: CloseReason, flow_run: str | None = None) -> Entry:
        """Write down that an attempt is over, so that the next one may begin.

        Doing it twice, or after somebody else did it, changes nothing: the entry as it stands is returned.
        """

        def change(entry: Entry) -> Entry:
            return entry.close(because, flow_run) if entry.attempt == attempt else entry

        return self._change(fingerprint, change)

    def complete(self, record: Record) -> Entry:
        """Write down that the current attempt is completed, and that it is the task's newest.

        An attempt that was revoked in the meantime stays revoked.
        """

        def change(entry: Entry) -> Entry:
            if entry.attempt != record.attempt or entry.record is not None:
                return entry
            # First of all: whoever dies in between leaves an attempt without a record, which the next run makes good.
            self._point_to(record)
            return entry.model_copy(update={"record": record})

        return self._change(record.fingerprint, change)

    def latest(self) -> Record | None:
        """Return the record of the task's newest completed job; where `latest.json` is lost, by all that there are."""
        record, _ = self._read(Record, self.folder.latest)
        return record or max(self._records(), key=lambda each: each.created, default=None)

    def _records(self) -> Iterator[Record]:
        for name, _ in self._objects.listing(self.folder.ledger):
            if _ENTRY.fullmatch(name):
                entry, _ = self._read(Entry, self.folder.ledger.below(name))
                if entry and entry.record:
                    yield entry.record

    def save_manifest(self, manifest: Manifest) -> None:
        """Keep an input's listing under its digest, so that a later run can say what changed."""
        self._objects.write_once(self.folder.manifest(manifest.digest), {"items": manifest.to_json()})

    def manifest(self, digest: str) -> Manifest | None:
        """Return a listing that was kept, where it was; a damaged one only costs a reason its count."""
        kept, _ = self._read(_Listing, self.folder.manifest(digest))
        try:
            return Manifest.from_json(kept.items) if kept else None
        except (KeyError, TypeError, ValueError):
            return None

    def _point_to(self, record: Record) -> None:
        """Make `latest.json` name this record unless it names a younger one."""
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

    def _read(self, model: type[_Kept], place: Location) -> tuple[_Kept | None, str | None]:
        """Return a document and its ETag; a damaged one counts as lost, but its ETag lets it be replaced.

        What it said is built again: from SageMaker, which knows the jobs by their names, and from the objects.
        """
        try:
            found = self._objects.read(place)
            return (_validated(model, found, place), found.etag) if found else (None, None)
        except DocumentDamaged as error:
            _logger.warning("The record %s It is built again from SageMaker and the job's outputs.", error)
            return None, error.etag

    def _change(self, fingerprint: str, change: Callable[[Entry], Entry]) -> Entry:
        """Read, change and write an entry until nobody else did so in between."""
        place = self.folder.entry(fingerprint)
        for _ in range(_MOST_TRIES):
            entry, etag = self._read_entry(fingerprint)
            wanted = change(entry)
            if wanted == entry or self._objects.write(place, wanted.model_dump(mode="json", by_alias=True), etag=etag):
                return wanted
        raise _conflict(place)


def _validated(model: type[_Kept], found: Document, place: Location) -> _Kept:
    try:
        return model.model_validate(found.value)
    except ValidationError as error:
        wrong = ", ".join(sorted({str(each["loc"][0]) for each in error.errors() if each["loc"]}))
        raise DocumentDamaged(place, f"wrong or missing are {wrong}", found.etag) from error


def _conflict(place: Location) -> LedgerConflict:
    return LedgerConflict(
        f"{place.uri} was changed by somebody else {_MOST_TRIES} times in a row.", fix="run again in a moment."
    )
