"""The reason of a run, in words for the user who pays for it."""

from typing import get_args

import pytest

from tasks_lib.jobs.fingerprint import ingredients
from tasks_lib.jobs.kinds import TRAINING
from tasks_lib.jobs.manifest import Item, Manifest
from tasks_lib.jobs.spec import JobSpec, ResolvedChannel
from tasks_lib.ledger.records import ClosedAttempt, CloseReason, Entry, Record
from tasks_lib.run.lookup import CLOSE_REASONS, reason_to_run

NEW = Entry(fingerprint="f")
DATA = Manifest({f"{number}.csv": Item(1, "x") for number in range(40)})


def work(*, data=DATA, **changed):
    """Return a spec's ingredients and its channels."""
    given = {
        "kind": TRAINING, "task": "fit", "image": "i:1", "entry_point": "fit.py", "instance_types": ("ml.m5.large",),
        "instance_count": 1, "volume_size_gb": 30, "max_runtime_seconds": 60,
    }  # fmt: skip
    channel = ResolvedChannel("data", "s3://b/d/", "FullyReplicated", {"digest": data.digest}, manifest=data)
    return ingredients(JobSpec(**(given | changed)), Manifest({"fit.py": Item(1, "a")}), (channel,), 1), (channel,)


@pytest.fixture
def completed(ledger):
    """A ledger whose newest completed job did the usual work."""
    before, _ = work()
    ledger.save_manifest(DATA)
    ledger.complete(
        Record(
            job="fit-1", arn="a", created=1.0, kind="training", fingerprint="0", attempt=1, ingredients=before,
            outputs={}, output_listing="o",
        )
    )  # fmt: skip
    return ledger


def test_the_first_run(ledger):
    """Without an earlier job the reason is "first run"."""
    assert reason_to_run(NEW, ledger.latest(), ledger, *work()) == "first run"


def test_every_close_reason_has_words():
    """Every `CloseReason` of the ledger has words."""
    assert set(get_args(CloseReason)) == set(CLOSE_REASONS)


@pytest.mark.parametrize("because", get_args(CloseReason))
def test_a_closed_attempt_is_the_reason(completed, because):
    """The reason is that of the last closed attempt, not of the first."""
    closed = (ClosedAttempt(attempt=1, because="failed"), ClosedAttempt(attempt=2, because=because))

    assert CLOSE_REASONS[because] == reason_to_run(
        Entry(fingerprint="f", closed=closed), completed.latest(), completed, *work()
    )


CHANGES = {
    "hyperparameter": ({"hyperparameters": {"C": 1}}, 'hyperparameter "C" added'),
    "image": ({"image": "i:2"}, "image changed (i:1 -> i:2)"),
    "hosts": ({"instance_count": 2}, "instance count changed (1 -> 2)"),
    "variable": ({"environment": {"A": "b"}}, 'environment variable "A" added'),
    "nothing": ({}, "it never completed"),
    "three": (
        {"image": "i:2", "instance_count": 2, "state": "none"},
        "image changed (i:1 -> i:2); instance count changed (1 -> 2); state changed (task -> none)",
    ),
    "four": (
        {"image": "i:2", "instance_count": 2, "state": "none", "hyperparameters": {"C": 1}},
        'hyperparameter "C" added; image changed (i:1 -> i:2); instance count changed (1 -> 2); and 1 more',
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_is_the_reason(completed, what):
    """The reason lists at most the three most informative changes since the newest completed job."""
    changed, expected = CHANGES[what]

    assert expected == reason_to_run(NEW, completed.latest(), completed, *work(**changed))


def test_a_changed_input_is_counted(completed):
    """A changed input is counted in objects that were changed, added or removed."""
    items = dict(DATA.items)
    items["0.csv"] = Item(1, "y")
    items["new.csv"] = items.pop("1.csv")

    assert (
        reason_to_run(NEW, completed.latest(), completed, *work(data=Manifest(items)))
        == 'input "data" changed (3 of 41 objects)'
    )


def test_without_the_old_listing_there_is_no_count(completed, objects):
    """Without the listing of the earlier input the reason has no count."""
    objects.delete(completed.folder.manifest(DATA.digest))

    assert (
        reason_to_run(NEW, completed.latest(), completed, *work(data=Manifest({"a": Item(1, "b")})))
        == 'input "data" changed'
    )
