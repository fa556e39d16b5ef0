"""The ledger: attempts, records and `latest`, shared by any number of processes without a database."""

import json
import math

import pytest
from aws_doubles import BUCKET
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tasks_lib.aws.objects import Document, Objects
from tasks_lib.errors import LedgerConflict
from tasks_lib.jobs.manifest import Item, Manifest
from tasks_lib.jobs.s3_layout import TaskFolder
from tasks_lib.ledger.records import Entry, Ledger, Record

WORK, OTHER = "a" * 64, "b" * 64


def record(attempt=1, *, work=WORK, created=100.0, **more):
    given = {
        "job": f"fit-{work[0]}-{attempt}", "arn": "arn:x", "created": created, "kind": "training", "fingerprint": work,
        "attempt": attempt, "ingredients": {"image": "i"}, "outputs": {"model": "s3://b/m"}, "output_listing": "o",
    }  # fmt: skip
    return Record(**(given | more))


def test_nothing_is_known_of_new_work(ledger):
    """Unknown work has an empty entry with attempt 1, and reading it writes nothing."""
    assert ledger.entry(WORK) == Entry(fingerprint=WORK)
    assert ledger.entry(WORK).attempt == 1
    assert ledger.latest() is None


def test_the_life_of_an_entry(ledger):
    """1. Attempt 1 fails. 2. Attempt 2 completes. 3. It is forced: the record goes. 4. Attempt 3 completes."""
    assert ledger.close(WORK, 1, "failed", "flow-1").attempt == 2
    assert ledger.complete(record(2)).record == record(2)
    assert ledger.latest() == record(2)

    revoked = ledger.close(WORK, 2, "forced", "flow-2")
    assert (revoked.attempt, revoked.record) == (3, None)
    assert [(closed.attempt, closed.because, closed.flow_run) for closed in revoked.closed] == [
        (1, "failed", "flow-1"),
        (2, "forced", "flow-2"),
    ]

    ledger.complete(record(3, created=200.0))
    assert ledger.latest() == ledger.entry(WORK).record == record(3, created=200.0)


def test_an_attempt_is_closed_once(ledger):
    """Two processes that saw the same failure close one attempt, not two."""
    first = ledger.close(WORK, 1, "failed", "flow-1")

    assert ledger.close(WORK, 1, "failed", "flow-2") == first == ledger.entry(WORK)


def test_only_the_current_attempt_can_be_closed(ledger):
    """Closing an attempt that is not the current one changes nothing."""
    entry = ledger.close(WORK, 1, "failed")

    assert ledger.close(WORK, 1, "stopped") == entry
    assert ledger.close(WORK, 7, "failed") == entry


def test_a_revoked_attempt_stays_revoked(ledger):
    """A job that completes after its attempt was closed is neither recorded nor `latest`."""
    ledger.close(WORK, 1, "forced", "flow-2")
    entry = ledger.complete(record(1))

    assert (entry.attempt, entry.record) == (2, None)
    assert ledger.latest() is None


def test_a_record_is_written_once(ledger):
    """If two processes complete the same attempt, the first record is kept."""
    ledger.complete(record(1, metrics={"auc": 1.0}))
    ledger.complete(record(1, metrics={"auc": 2.0}))

    assert ledger.entry(WORK).record.metrics == {"auc": 1.0}


def test_completing_again_writes_a_lost_latest(ledger, objects):
    """If `latest.json` is missing after a crash, completing the attempt again writes it."""
    ledger.complete(record(1))
    objects.delete(ledger.folder.latest)
    ledger.complete(record(1))

    assert ledger.latest() == record(1)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_latest_keeps_the_newest(ledger, order):
    """`latest` is the record with SageMaker's latest creation time, in any order of recording."""
    records = [record(1, created=100.0), record(1, work=OTHER, created=200.0)]
    for index in order:
        ledger.complete(records[index])

    assert ledger.latest() == records[1]


def test_records_of_one_work_do_not_touch_another(ledger):
    """A failure of other work keeps the record."""
    ledger.complete(record(1))
    ledger.close(OTHER, 1, "failed")

    assert ledger.entry(WORK).record == record(1)


def test_tasks_do_not_touch_each_other(objects):
    """The tasks `fit` and `fit2` have separate ledgers, although one name is a prefix of the other."""
    one, other = (Ledger(objects, TaskFolder(BUCKET, f"demo/{task}/")) for task in ("fit", "fit2"))
    one.complete(record(1))

    assert other.entry(WORK).record is None
    assert other.latest() is None


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=5),
        st.lists(st.tuples(st.floats(0, 1e9), st.floats()), max_size=3),
        max_size=3,
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
def test_a_record_comes_back_as_it_was(ledger, objects, history):
    """A record is read back unchanged through strict JSON, including floats and values that are not finite."""
    written = record(
        1,
        metric_history=history,
        metrics={"x": math.nan},
        ingredients={"inputs": {"x": {"digest": "d"}}, "n": [1, None, True]},
    )
    objects.delete(ledger.folder.entry(WORK))
    ledger.complete(written)

    assert ledger.entry(WORK).record == written
    assert ledger.complete(written).record == written
    json.loads(objects.open(ledger.folder.entry(WORK)).read(), parse_constant=pytest.fail)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"not json", b"[]", b"{}", b'{"fingerprint": 7}'),
        b'{"fingerprint": "a", "spent": [{"attempt": 1, "because": "bored"}]}',
        b'{"fingerprint": "a", "record": {"job": "fit-1"}}',
    ],
)
def test_a_damaged_entry_is_built_again(ledger, objects, body, caplog):
    """A damaged entry is reported with its place, counts as lost, and is replaced by the next record."""
    place = ledger.folder.entry(WORK)
    objects.put(place, body)

    assert ledger.entry(WORK) == Entry(fingerprint=WORK)
    assert place.uri in caplog.text
    assert ledger.complete(record(1)).record == record(1)
    assert ledger.entry(WORK).record == record(1)


@pytest.mark.parametrize(
    "body", [b"{}", b'{"items": 3}', b'{"items": [["a"]]}', b'{"items": [["a", "x", "y", 1]]}', b"["]
)
def test_other_damaged_documents_are_replaced(ledger, objects, body):
    """A damaged `latest.json` is replaced by the newest record, and a damaged listing counts as missing."""
    ledger.complete(record(1))
    objects.put(ledger.folder.latest, body)
    objects.put(ledger.folder.manifest("d"), body)

    assert ledger.latest() == record(1)
    assert ledger.manifest("d") is None


def test_a_lost_latest_is_the_newest_of_all_records(ledger, objects):
    """A missing `latest.json` is replaced by the newest of all entries; other objects beside them are ignored."""
    for work, created in (("a" * 64, 3.0), ("b" * 64, 5.0), ("c" * 64, 4.0)):
        ledger.complete(record(1).model_copy(update={"fingerprint": work, "created": created}))
    objects.put(ledger.folder.lease, b"[")
    objects.delete(ledger.folder.latest)

    assert ledger.latest().fingerprint == "b" * 64


def test_unknown_fields_of_an_entry_are_ignored(ledger, objects):
    """An unknown field in an entry, as of a newer version, is ignored."""
    objects.write(ledger.folder.entry(WORK), {"fingerprint": WORK, "spent": [], "record": None, "new": 1})

    assert ledger.entry(WORK) == Entry(fingerprint=WORK)


def test_listings_are_kept_under_their_digest(ledger):
    """A listing is stored under its digest, any number of times; an unknown digest gives None."""
    manifest = Manifest({"ä": Item(1, "x"), "b": Item(2, "y", executable=True)})
    ledger.save_manifest(manifest)
    ledger.save_manifest(manifest)

    assert dict(ledger.manifest(manifest.digest).items) == dict(manifest.items)
    assert ledger.manifest("0" * 64) is None


class Restless(Objects):
    """S3 whose conditional writes always lose a race."""

    def write(self, place, value, *, etag=None):
        return None


def test_a_write_that_loses_every_race_raises(block, task_folder):
    """After 20 lost races a write raises `LedgerConflict` instead of trying forever."""
    with pytest.raises(LedgerConflict, match="20 times in a row"):
        Ledger(Restless(block), task_folder).close(WORK, 1, "failed")


class Memory:
    """S3's conditional writes in a dictionary, for one thread."""

    def __init__(self):
        self.documents, self.writes = {}, 0

    def read(self, place):
        found = self.documents.get(place)
        return Document(*found) if found else None

    def write(self, place, value, *, etag=None):
        found = self.documents.get(place)
        if (found[1] if found else None) != etag:
            return None
        self.writes += 1
        self.documents[place] = (value, str(self.writes))
        return str(self.writes)

    def listing(self, prefix):
        return Manifest({place.key[len(prefix.key) :]: Item(1, etag) for place, (_, etag) in self.documents.items()})


class Racing(RuleBasedStateMachine):
    """Any order of failures, forced runs and completions, each for any attempt that a process may believe in."""

    @initialize()
    def begin(self):
        self.ledger = Ledger(Memory(), TaskFolder("b", "demo/fit/"))
        self.youngest = None
        self.attempts = {WORK: 1, OTHER: 1}
        self.recorded = {WORK: None, OTHER: None}

    @rule(
        work=st.sampled_from([WORK, OTHER]), believed=st.integers(1, 4), because=st.sampled_from(["failed", "forced"])
    )
    def close(self, work, believed, because):
        entry = self.ledger.close(work, believed, because)
        if believed == self.attempts[work]:
            self.attempts[work] += 1
            self.recorded[work] = None
        assert entry.attempt == self.attempts[work]

    @rule(work=st.sampled_from([WORK, OTHER]), believed=st.integers(1, 4), created=st.floats(1, 1000))
    def complete(self, work, believed, created):
        done = record(believed, work=work, created=created)
        self.ledger.complete(done)
        if believed == self.attempts[work] and self.recorded[work] is None:
            self.recorded[work] = done
            self.youngest = max(self.youngest or 0, created)

    @invariant()
    def attempts_only_grow_and_records_are_of_the_current_one(self):
        for work, attempt in self.attempts.items():
            entry = self.ledger.entry(work)
            assert entry.attempt == attempt == len(entry.closed) + 1
            assert entry.record == self.recorded[work]
            assert [closed.attempt for closed in entry.closed] == list(range(1, attempt))

    @invariant()
    def latest_is_the_youngest_that_was_completed(self):
        latest = self.ledger.latest()
        assert (latest.created if latest else None) == self.youngest


TestRacing = Racing.TestCase
TestRacing.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
