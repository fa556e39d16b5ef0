"""The decision as a table: from what was read to the next action."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from tasks_lib.jobs.job import Job
from tasks_lib.jobs.kind import STATUSES, Phase
from tasks_lib.jobs.kinds import TRAINING
from tasks_lib.ledger.records import ClosedAttempt, Entry, Record
from tasks_lib.run.decision import Action, Decision, Intact, from_job, from_ledger

WORK = "f" * 64
LIVE = [status for status in (*STATUSES, "Suspended") if not TRAINING.phase_of(status).terminal]


def record(attempt=1):
    return Record(
        job=f"fit-{attempt}", arn="arn", created=1.0, kind="training", fingerprint=WORK, attempt=attempt,
        ingredients={}, outputs={}, output_listing="o",
    )  # fmt: skip


def entry(closed=0, *, completed=True):
    made = tuple(ClosedAttempt(attempt=number, because="failed") for number in range(1, closed + 1))
    return Entry(fingerprint=WORK, closed=made, record=record(closed + 1) if completed else None)


def job(status, fingerprint=WORK):
    return Job(TRAINING, "fit-1", "arn", status, fingerprint=fingerprint)


ALL = Intact(outputs=True, state=True)
LEDGER_TABLE = [
    # completed, kept, revoked -> action, because
    (True, ALL, None, Action.SKIP, None),
    (True, Intact(outputs=False, state=True), None, Action.CLOSE, "outputs gone"),
    (True, Intact(outputs=True, state=False), None, Action.CLOSE, "state changed"),
    (True, Intact(outputs=False, state=False), None, Action.CLOSE, "outputs gone"),
    (True, ALL, "forced", Action.CLOSE, "forced"),
    (True, ALL, "clean_state", Action.CLOSE, "clean_state"),
    (True, Intact(outputs=False, state=False), "forced", Action.CLOSE, "forced"),
    (False, None, None, Action.ASK, None),
    (False, None, "forced", Action.ASK, None),
    (False, None, "clean_state", Action.ASK, None),
    (False, ALL, None, Action.ASK, None),
]


@pytest.mark.parametrize(("completed", "kept", "revoked", "action", "because"), LEDGER_TABLE)
def test_decision_by_the_record(completed, kept, revoked, action, because):
    """The ledger decides first, so a skip needs no call of SageMaker."""
    assert Decision(action, because) == from_ledger(entry(completed=completed), kept, revoked)


JOB_TABLE = [
    # status, same work, revoked -> action, because
    (None, True, None, Action.CREATE, None),
    (None, True, "forced", Action.CREATE, None),
    ("InProgress", True, None, Action.ATTACH, None),
    ("InProgress", True, "forced", Action.ATTACH, None),
    ("Stopping", True, None, Action.ATTACH, None),
    ("Stopping", True, "clean_state", Action.ATTACH, None),
    ("Deleting", True, None, Action.ATTACH, None),
    ("Suspended", True, None, Action.ATTACH, None),
    ("Completed", True, None, Action.RECORD, None),
    ("Completed", True, "forced", Action.CLOSE, "forced"),
    ("Completed", True, "clean_state", Action.CLOSE, "clean_state"),
    ("Failed", True, None, Action.CLOSE, "failed"),
    ("Failed", True, "forced", Action.CLOSE, "failed"),
    ("Stopped", True, None, Action.CLOSE, "stopped"),
    ("Stopped", True, "forced", Action.CLOSE, "stopped"),
    *((status, False, revoked, Action.CLOSE, "foreign job") for status in STATUSES for revoked in (None, "forced")),
]


@pytest.mark.parametrize(("status", "same", "revoked", "action", "because"), JOB_TABLE)
def test_decision_by_the_job(status, same, revoked, action, because):
    """The job that has this attempt's name decides next."""
    found = None if status is None else job(status, WORK if same else "0" * 64)

    assert Decision(action, because) == from_job(found, WORK, revoked)


REVOKED = st.sampled_from([None, "forced", "clean_state"])
KEPT = st.none() | st.builds(Intact, st.booleans(), st.booleans())
JOBS = st.none() | st.builds(job, st.sampled_from([*STATUSES, "Suspended"]), st.sampled_from([WORK, "0" * 64]))
ENTRIES = st.builds(entry, st.integers(0, 3), completed=st.booleans())


def decided(the_entry, kept, the_job, revoked):
    """Return the decision from the ledger and, if needed, from the job, in the order of `execution.py`."""
    first = from_ledger(the_entry, kept, revoked)
    return from_job(the_job, WORK, revoked) if first.action is Action.ASK else first


@given(ENTRIES, KEPT, JOBS, REVOKED)
def test_no_second_job_beside_a_running_one(the_entry, kept, the_job, revoked):
    """No job is created while a job of the same work is running."""
    decision = from_job(the_job, WORK, revoked)

    if the_job is not None and the_job.fingerprint == WORK and not the_job.phase.terminal:
        assert decision.action is Action.ATTACH
    if decided(the_entry, kept, the_job, revoked).action is Action.CREATE:
        assert the_job is None


@given(ENTRIES, KEPT, JOBS, REVOKED)
def test_a_skip_needs_everything(the_entry, kept, the_job, revoked):
    """A skip needs a record with intact outputs and state, and no request to run again."""
    if decided(the_entry, kept, the_job, revoked).action is Action.SKIP:
        assert the_entry.record is not None
        assert kept == ALL
        assert revoked is None


@given(ENTRIES, KEPT, JOBS, REVOKED)
def test_only_a_completed_job_is_recorded(the_entry, kept, the_job, revoked):
    """Only a completed job of the same work is recorded; a stopped job and a job of other work are not."""
    if decided(the_entry, kept, the_job, revoked).action is Action.RECORD:
        assert the_job.phase is Phase.COMPLETED
        assert the_job.fingerprint == WORK


@given(ENTRIES, KEPT, JOBS, REVOKED)
def test_only_a_closed_attempt_has_a_reason(the_entry, kept, the_job, revoked):
    """A decision has a reason exactly if it closes the attempt."""
    decision = decided(the_entry, kept, the_job, revoked)

    assert (decision.because is not None) is (decision.action is Action.CLOSE)


@pytest.mark.parametrize("status", LIVE)
def test_statuses_that_are_not_over_are_attached_to(status):
    """A job with any status that is not terminal is attached to, including one that AWS may add."""
    assert from_job(job(status), WORK, None).action is Action.ATTACH


@pytest.mark.parametrize(
    ("because", "flow_run", "expected"),
    [
        ("forced", "a", True),
        ("clean_state", "a", True),
        ("failed", "a", False),
        ("forced", "b", False),
        ("forced", None, False),
    ],
)
def test_a_retry_does_not_force_again(because, flow_run, expected):
    """Only an attempt that the same flow run forced counts as forced; a failure or another flow run does not."""
    made = Entry(fingerprint=WORK, closed=(ClosedAttempt(attempt=1, because=because, flow_run=flow_run),))

    assert expected is made.forced_by("a")
    assert not made.forced_by(None)
