"""The rules of faults: which documents are valid, and what the rules decide. Pure."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_sagemaker.faults.decision import Count, MatchedRequest, applies_to, rule_for
from local_sagemaker.faults.rules import (
    FaultsInvalid,
    JobRule,
    RequestFault,
    RequestRule,
    read_faults,
    read_rule,
    shown,
)

ASKED = MatchedRequest("s3", "PutObject", "/bucket/key")


def run(rules, asked):
    """Decide requests one by one; return the positions of the rules that fired, and the counts."""
    counts = [Count() for _ in rules]
    fired = []
    for one in asked:
        position, changed = rule_for(rules, counts, one)
        fired.append(position)
        for changing, count in changed.items():
            counts[changing] = count
    return fired, counts


globs = st.sampled_from(["*", "s3", "sage*", "Put*", "[CD]*"])
request_rules = st.builds(
    lambda kind, **more: RequestRule(kind, **{**more, "seconds": 1.5 if kind == "slow" else 0.0}),
    st.sampled_from(get_args(RequestFault)),
    service=globs,
    operation=globs,
    probability=st.floats(0, 1),
    seed=st.integers(),
    nth=st.lists(st.integers(1, 9), max_size=3).map(tuple),
    times=st.none() | st.integers(1, 9),
)
job_rules = st.builds(
    JobRule,
    st.sampled_from(["interrupt", "capacity"]),
    name=globs,
    instance_type=globs,
    probability=st.floats(0, 1),
    seed=st.integers(),
    times=st.none() | st.integers(1, 9),
)


@given(st.lists(request_rules, max_size=3), st.lists(job_rules, max_size=3))
def test_what_is_shown_can_be_set_again(requests, jobs):
    """Shown rules can be set again through JSON and give the same rules; so do stored rules."""
    document = {"requests": [shown(one) for one in requests], "jobs": [shown(one) for one in jobs]}
    read = read_faults(json.loads(json.dumps(document)))

    assert (*requests, *jobs) == read.rules
    assert list(read.rules) == [read_rule(json.loads(json.dumps(asdict(one)))) for one in read.rules]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ([], "object"),
        ({"request": []}, "did you mean 'requests'?"),
        ({"requests": {}}, "list of objects"),
        ({"requests": [{}]}, "kind is one of lose"),
        ({"requests": [{"kind": "throtle"}]}, "did you mean 'throttle'?"),
        ({"requests": [{"kind": "lose", "servic": "s3"}]}, "did you mean 'service'?"),
        ({"requests": [{"kind": "lose", "when": "after"}]}, "'when' means nothing here"),
        ({"requests": [{"kind": "hold", "when": "during"}]}, "when cannot be 'during'"),
        ({"requests": [{"kind": "slow"}]}, "slow needs seconds"),
        ({"requests": [{"kind": "slow", "seconds": -1}]}, "seconds cannot be -1"),
        ({"requests": [{"kind": "lose", "probability": 30}]}, "probability cannot be 30"),
        ({"requests": [{"kind": "lose", "nth": [0]}]}, r"nth cannot be \[0\]"),
        ({"requests": [{"kind": "lose", "times": True}]}, "times cannot be True"),
        ({"requests": [{"kind": "error", "status": 200}]}, "status cannot be 200"),
        ({"requests": [{"kind": "interrupt"}]}, "kind is one of lose"),
        ({"jobs": [{"kind": "quota"}]}, "quota needs limit"),
        ({"jobs": [{"kind": "capacity", "seconds": 1}]}, "'seconds' means nothing here"),
        ({"jobs": [{"kind": "capacity", "instance_type": 5}]}, "instance_type cannot be 5"),
    ],
)
def test_a_rule_that_would_do_nothing_is_refused(document, words):
    """A misspelt, misplaced or impossible member is an error that names it, not a rule that never fires."""
    with pytest.raises(FaultsInvalid, match=words):
        read_faults(document)


def test_the_first_rule_that_fires_decides_and_all_that_match_count():
    """The first rule that fires decides; every rule that matches counts the request, even if an earlier one fires."""
    rules = (
        RequestRule("lose", operation="Put*", nth=(2,)),
        RequestRule("drop", service="s3"),
        RequestRule("throttle"),
    )
    fired, counts = run(rules, [ASKED, ASKED, replace(ASKED, service="logs", operation="GetLogEvents")])

    assert fired == [1, 0, 2]
    assert counts == [Count(2, 1), Count(2, 1), Count(3, 1)]


def test_times_and_nth_bound_a_rule():
    """`nth` counts matching requests from 1; `times` ends a rule after that many."""
    assert run((RequestRule("lose", nth=(2, 4), times=1),), [ASKED] * 5)[0] == [None, 0, None, None, None]
    assert run((RequestRule("lose", times=2),), [ASKED] * 4)[0] == [0, 0, None, None]


def test_rules_select_by_service_operation_and_path():
    """Service, operation and path are case-sensitive globs over the whole value."""
    rule = RequestRule("lose", service="s3", operation="Put*", path="/bucket/*/lease.json")

    assert run((rule,), [replace(ASKED, path="/bucket/a/_ledger/lease.json")])[0] == [0]
    for other in ({"service": "s3x"}, {"operation": "putObject"}, {"path": "/bucket/a/lease.json.part"}):
        asked = replace(ASKED, **{"path": "/bucket/a/lease.json", **other})
        assert run((rule,), [asked])[0] == [None]


@given(st.floats(0, 1), st.integers(), st.lists(st.booleans(), max_size=60))
def test_a_draw_depends_on_the_seed_and_the_matching_request_only(probability, seed, mixed):
    """A rule's draws depend only on its seed and its matching requests; other requests in between change nothing."""
    rules = (RequestRule("lose", service="s3", probability=probability, seed=seed),)
    other = replace(ASKED, service="logs")
    alone, _ = run(rules, [ASKED] * sum(mixed))
    between, _ = run(rules, [ASKED if matching else other for matching in mixed])

    assert alone == [fired for fired, matching in zip(between, mixed, strict=True) if matching]


def test_a_probability_is_met():
    """Of 2,000 requests, about 30% fail with 0.3, none with 0, all with 1; two rules with one seed draw differently."""
    rules = tuple(RequestRule("lose", service=s, probability=0.3, seed=7) for s in ("s3", "logs"))
    first, _ = run(rules, [ASKED] * 2000)
    second, _ = run(rules, [replace(ASKED, service="logs")] * 2000)

    assert 500 < first.count(0) < 700
    assert [one is None for one in first] != [one is None for one in second]
    assert run((RequestRule("lose", probability=0.0),), [ASKED] * 9)[0] == [None] * 9
    assert run((RequestRule("lose", probability=1.0),), [ASKED] * 9)[0] == [0] * 9


def test_a_rule_of_jobs_draws_by_name():
    """A job rule draws by the job's name: repeated checks agree, and with 0.5 about half of many jobs match."""
    rule = JobRule("interrupt", name="fit-*", instance_type="ml.g?.*", probability=0.5, seed=3)
    concerned = [applies_to(rule, 0, f"fit-{number}", "ml.g5.xlarge") for number in range(500)]

    assert 200 < sum(concerned) < 300
    assert concerned == [applies_to(rule, 0, f"fit-{number}", "ml.g5.xlarge") for number in range(500)]
    assert not any(applies_to(rule, 0, f"fit-{number}", "ml.m5.large") for number in range(20))
    assert not any(applies_to(rule, 0, f"clean-{number}", "ml.g5.xlarge") for number in range(20))


def test_faults_are_loaded_only_when_there_are_rules(tmp_path):
    """A server and a supervisor without rules do not load the package; the first rule that is asked for does."""
    program = """
import sys
from pathlib import Path
import local_sagemaker.application, local_sagemaker.runtime.supervisor
from local_sagemaker.job_faults import JobFaults
from local_sagemaker.job_table import JobTable

database = JobTable(Path(sys.argv[1])).database
loaded = lambda: any(name.startswith("local_sagemaker.faults") for name in sys.modules)
print(JobFaults(database).fire("capacity", "job", "ml.m5.large"), loaded())
with database.writing() as db:
    db.execute("INSERT INTO faults VALUES (0, ?, 0, 0)", (sys.argv[2],))
print(JobFaults(database).fire("capacity", "job", "ml.m5.large").kind, loaded())
"""
    rule = json.dumps(asdict(JobRule("capacity")))
    done = subprocess.run([sys.executable, "-c", program, tmp_path, rule], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["None", "False", "capacity", "True"]
