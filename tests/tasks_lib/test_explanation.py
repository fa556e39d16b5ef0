"""`explain()`: the ingredients of a result, compared with those of an earlier one."""

from tasks_lib.results.explanation import Explanation

THEN = {
    "kind": "training", "image": "image:1", "code": {"fit.py": "a" * 64}, "entry point": "fit.py", "command": None,
    "arguments": ["--fast", "1"], "hyperparameters": {"C": "1"}, "environment": {"MODE": "b" * 64},
    "instance count": 1, "state": "task", "network isolation": False, "overrides": {},
    "inputs": {"raw": {"uri": "s3://b/raw/", "digest": "c" * 64, "distribution": "FullyReplicated"}},
}  # fmt: skip


def rows(now, before=None):
    return {name: (value, earlier) for name, value, earlier in Explanation("r", "j", "", now, before).table.rows}


def test_every_ingredient_that_says_something_has_a_row():
    """Every ingredient that is not empty has a row; a variable is shown by its digest, not by its value."""
    assert rows(THEN) == {
        "kind": ("training", None), "image": ("image:1", None), "entry point": ("fit.py", None),
        "arguments": ("--fast 1", None), "instance count": ("1", None), "state": ("task", None),
        "code fit.py": ("a" * 12, None), "input raw": (f"s3://b/raw/ (sha256 {'c' * 12})", None),
        "hyperparameter C": ("1", None), "variable MODE": (f"(sha256 {'b' * 12})", None),
    }  # fmt: skip


def test_a_changed_ingredient_is_beside_its_earlier_value():
    """A changed, added or removed ingredient is shown beside its earlier value."""
    now = THEN | {"hyperparameters": {"C": "2", "D": "1"}, "environment": {}}
    found = rows(now, THEN)

    assert found["hyperparameter C"] == ("2", "1")
    assert found["hyperparameter D"] == ("1", "(none)")
    assert found["variable MODE"] == ("(none)", f"(sha256 {'b' * 12})")
    assert found["image"] == ("image:1", None)


def test_an_output_of_a_job_is_named_by_it():
    """An input that is an output of a job is shown with the job's name."""
    row = {"job": "prepare-1", "output": "output", "part": "train", "distribution": "FullyReplicated"}

    assert rows(THEN | {"inputs": {"train": row}})["input train"] == ("output/train of prepare-1", None)


def test_a_skip_says_why_the_job_had_run():
    """A skip has its own reason and that of the job; a run has only its own."""
    skipped = Explanation("skipped: nothing changed", "fit-1", "ran: first run", THEN)
    ran = Explanation("ran: first run", "fit-1", "ran: first run", THEN)

    assert str(skipped).startswith("skipped: nothing changed. The job fit-1 had run because: first run.\n")
    assert str(ran).startswith("ran: first run (job fit-1).\n")
