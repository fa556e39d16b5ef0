"""Orphans: a running job is one only if nothing that is known of it shows that a run may still want it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_lib.jobs.job import Job
from tasks_lib.jobs.kinds import TRAINING
from tasks_lib.ledger.heartbeats import EXPIRES_AFTER
from tasks_lib.orphans.policy import JobActivity, Rules, Verdict, assess, duration_text, needs_runs, run_of

JOB = Job(TRAINING, "fit-0123456789abcdef-1", "arn", "InProgress")
MINUTE = timedelta(minutes=1)

ages = st.one_of(
    st.timedeltas(min_value=-MINUTE, max_value=20 * MINUTE),
    st.timedeltas(min_value=MINUTE, max_value=timedelta(days=30)),
)
run_ids = st.sampled_from(["a", "b", "c"])
waiters = st.builds("{}/{}".format, run_ids, st.integers(0, 2))
sightings = st.builds(
    JobActivity,
    st.just(JOB),
    st.just("fit"),
    ages,
    st.dictionaries(waiters, ages, max_size=4),
    st.lists(run_ids, max_size=2, unique=True).map(tuple),
    st.dictionaries(run_ids, st.sampled_from(["live", "over", "unknown", "unreachable"]), max_size=3),
)
rules = st.builds(
    Rules,
    st.timedeltas(min_value=timedelta(), max_value=timedelta(hours=2)),
    st.timedeltas(min_value=timedelta(), max_value=timedelta(days=2)),
    st.booleans(),
)
DAY_OLD = JobActivity(JOB, "fit", timedelta(days=1))


@given(sightings, rules)
def test_no_run_wants_an_orphan(seen, rules):
    """An orphan has no fresh heartbeat and is past the grace period.

    No flow run that may still be running wants it.
    """
    if not assess(seen, rules).orphan:
        return

    assert all(age > EXPIRES_AFTER for age in seen.waiters.values())
    assert seen.age >= rules.grace
    assert rules.include_left or not seen.left
    for run, state in seen.runs.items():
        silence = [age for waiter, age in seen.waiters.items() if run_of(waiter) == run]
        assert state in ("over", "unknown") or (silence and min(silence) > rules.silence)


@given(sightings, rules)
def test_what_is_kept_has_a_reason(seen, rules):
    """A job that is not an orphan is kept for a true and stated reason."""
    judged = assess(seen, rules)
    speaks = {
        Verdict.WAITED_FOR: any(age <= EXPIRES_AFTER for age in seen.waiters.values()),
        Verdict.YOUNG: seen.age < rules.grace,
        Verdict.RUN_IS_LIVE: "live" in seen.runs.values(),
        Verdict.RUN_NOT_KNOWN_NOW: "unreachable" in seen.runs.values(),
        Verdict.LEFT: bool(seen.left) and not rules.include_left,
        Verdict.ORPHAN: True,
    }

    assert speaks[judged.verdict]
    assert judged.why


@given(sightings, rules, waiters, st.timedeltas(min_value=-MINUTE, max_value=EXPIRES_AFTER))
def test_a_fresh_heartbeat_keeps_any_job(seen, rules, waiter, age):
    """A heartbeat that has not expired keeps a job, whatever else is known."""
    waited_for = replace(seen, waiters={**seen.waiters, waiter: age})

    assert assess(waited_for, rules).verdict is Verdict.WAITED_FOR


@given(sightings, rules, st.timedeltas(min_value=timedelta(), max_value=timedelta(days=9)))
def test_an_orphan_stays_one_as_time_passes(seen, rules, later):
    """An orphan stays one as time passes, because its heartbeats and the job grow older together."""
    marks = {waiter: age + later for waiter, age in seen.waiters.items()}

    assert assess(seen, rules).orphan <= assess(replace(seen, age=seen.age + later, waiters=marks), rules).orphan


@given(sightings, rules)
def test_prefect_is_asked_if_its_answer_matters(seen, rules):
    """If Prefect need not be asked, none of its answers would change the verdict."""
    assert needs_runs(seen, rules) or assess(seen, rules) == assess(replace(seen, runs={}), rules)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({}, "no run waits for it or has a heartbeat; only the heartbeats decide"),
        ({"runs": {"a": "over"}}, "no run waits for it or has a heartbeat; flow run a is over"),
        (
            {"runs": {"a": "unknown"}, "waiters": {"a/1": timedelta(hours=2)}},
            "no run waits for it; flow run a is not known to this Prefect server; only the heartbeats decide",
        ),
        (
            {"runs": {"a": "live"}, "waiters": {"a/1": timedelta(hours=13)}},
            "no run waits for it; flow run a was not heard of for 13 h",
        ),
    ],
)
def test_the_reason_names_its_source(changed, why):
    """The reason names its source: Prefect's state, Prefect's silence, or the heartbeats alone."""
    judged = assess(replace(DAY_OLD, **changed), Rules())

    assert judged.orphan
    assert judged.why == why


@pytest.mark.parametrize(("hours", "verdict"), [(11, Verdict.RUN_IS_LIVE), (13, Verdict.ORPHAN)])
def test_a_live_run_counts_for_a_limited_time(hours, verdict):
    """A run that is live in Prefect counts for 12 hours: a laptop may sleep, but a killed process stays `Running`."""
    seen = replace(DAY_OLD, waiters={"a/1": timedelta(hours=hours)}, runs={"a": "live"})

    assert assess(seen, Rules()).verdict is verdict


def test_a_live_run_without_a_heartbeat_counts():
    """1. A run waits for its retry, or the ledger was deleted. 2. It has no heartbeat whose age is known.

    3. Its job is kept.
    """
    assert assess(replace(DAY_OLD, runs={"a": "live"}), Rules()).verdict is Verdict.RUN_IS_LIVE


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (timedelta(seconds=-5), "0 min"),
        (timedelta(seconds=29), "0 min"),
        (timedelta(minutes=59), "59 min"),
        (timedelta(hours=2), "2 h"),
        (timedelta(days=3, hours=4, minutes=5), "3 d 4 h"),
    ],
)
def test_spans(time, text):
    """A duration is shown with its two largest units."""
    assert duration_text(time) == text
