"""The pages about a job in Prefect's UI: their content, their links, and that no text in them becomes markup."""

from __future__ import annotations

import json
import math
import re

import pytest
from aws_doubles import ProjectDouble, make_block
from hypothesis import given
from hypothesis import strategies as st

from tasks_lib import JobResult
from tasks_lib.aws.console_links import console_url
from tasks_lib.errors import JobFailed, JobStopped
from tasks_lib.jobs.kinds import TRAINING
from tasks_lib.reports.summary import Pages, began, metrics_line, metrics_table

JOB = "fit-C1-0-5f3a9c1e7b2d4860-1"
BLOCK = make_block()


def local_block():
    double = ProjectDouble(make_block())
    double.is_local = True
    return double


def result(**more):
    """Return a result as on AWS."""
    given = {
        "project": "demo", "task": "fit-C1.0", "job": JOB, "kind": "training", "cached": False,
        "arn": f"arn:aws:sagemaker:us-east-1:123456789012:training-job/{JOB}", "reason": "ran: first run",
        "seconds": 200.0, "job_seconds": 190.0, "billable_seconds": 75.0, "fingerprint": "0123456789abcdef" * 4,
        "metrics": {"auc": 0.75, "loss": 0.5}, "created": 1000.0, "instance_type": "ml.m5.large", "instance_count": 2,
        "metric_history": {"auc": [(1.0, 0.5), (2.0, 0.875), (3.0, 0.75)], "loss": [(1.0, 0.5)]},
        "phases": {"starting": 80.0, "downloading": 20.0, "training": 70.5, "uploading": 5.0},
        "inputs": {"data": "s3://a-bucket/demo/fit/input/data/1f/"}, "link": console_url(BLOCK, TRAINING, JOB),
        "outputs": {"model": f"s3://a-bucket/demo/fit/{JOB}/output/model.tar.gz"},
    }  # fmt: skip
    return JobResult(**(given | more))


def error(kind=JobFailed, **more):
    given = {
        "task": "fit-C1.0", "job": JOB, "reason": "AlgorithmError: ValueError: no rows", "exit_code": 3,
        "host": "algo-2", "last_lines": ["algo-2 | loading", "algo-2 | ValueError: no rows"], "fix": "mend it.",
        "link": console_url(BLOCK, TRAINING, JOB),
    }  # fmt: skip
    return kind(f"The training job {JOB} failed on algo-2.", **(given | more))


def test_a_summary_says_all():
    """The page has all facts of the job, its metrics, inputs and outputs, and links to AWS's console."""
    page = Pages(BLOCK).summary(result(cost=0.0048))

    for words in (
        "# fit-C1.0: completed", "| **Why** | ran: first run |", f"[`{JOB}`](https://us-east-1.console.aws.amazon.com/sagemaker/",
        "Completed", "training", "2 x ml.m5.large", "3 min 10 s", "starting 80.0, downloading 20.0, training 70.5",
        "75 s of each instance", "less than 0.01", "`0123456789ab`", "| auc | 0.75 | 0.5 | 0.875 | 3 |",
        "[CloudWatch](https://us-east-1.console.aws.amazon.com/cloudwatch/",
        "[`s3://a-bucket/demo/fit/input/data/1f/`](https://us-east-1.console.aws.amazon.com/s3/buckets/a-bucket?",
        "(https://us-east-1.console.aws.amazon.com/s3/object/a-bucket?",
    ):  # fmt: skip
        assert words in page
    assert "0123456789abc" not in page


def test_an_unknown_cost_is_unknown():
    """An unknown cost or bill is "unknown", never 0."""
    page = Pages(BLOCK).summary(result(cost=None, billable_seconds=None))

    assert "| **Cost** | unknown |" in page
    assert "| **Billed** | unknown |" in page


def test_a_local_page_has_no_links():
    """A local page has plain URIs instead of links, and the Python call that reads the log."""
    page = Pages(local_block()).summary(result(link=""))

    assert "https://" not in page
    assert "| data | `s3://a-bucket/demo/fit/input/data/1f/` |" in page
    assert "`result.logs()`" in page


def test_a_skip_says_what_it_saved():
    """The page of a skip has the duration and cost of the earlier job, and says that nothing is billed now."""
    page = Pages(BLOCK).summary(result(cached=True, reason="skipped: nothing changed", cost=1.5))

    assert page.startswith("# fit-C1.0: skipped")
    assert "| **Why** | skipped: nothing changed |" in page
    assert "a job of 3 min 10 s, cost 1.50" in page
    assert "nothing, now" in page


def test_an_old_record_knows_less():
    """Unknown facts of an older record are left out, and the page is still made."""
    bare = result(
        created=None, phases={}, instance_type="", instance_count=None, job_seconds=None, billable_seconds=None,
        metrics={}, metric_history={}, inputs={}, outputs={}, link="", cached=True,
    )  # fmt: skip
    page = Pages(BLOCK).summary(bare)

    assert "Instances" not in page
    assert "## " not in page
    assert "a job of unknown length" in page
    assert began(bare) is None


def test_metrics_as_a_table_and_a_line():
    """The table has last, lowest and highest value and the number of points; without a history there is one point."""
    table = metrics_table(result(metrics={"auc": 0.75, "f1": 0.5}))

    assert table.to_dicts() == [
        {"metric": "auc", "last": 0.75, "min": 0.5, "max": 0.875, "points": 3},
        {"metric": "f1", "last": 0.5, "min": 0.5, "max": 0.5, "points": 1},
    ]
    assert metrics_line(result()) == "auc 0.75, loss 0.5"


def test_values_that_are_not_finite_are_shown_and_not_compared():
    """Values that are not finite are shown but not compared, and Prefect gets valid JSON."""
    history = {
        "loss": [(1.0, math.nan), (2.0, 0.5), (3.0, 0.4), (4.0, math.inf), (5.0, math.nan)],
        "x": [(1.0, math.nan)],
    }
    table = metrics_table(result(metrics={"loss": math.nan, "x": math.nan}, metric_history=history))

    assert json.loads(json.dumps(table.to_dicts()), parse_constant=pytest.fail) == [
        {"metric": "loss", "last": "NaN", "min": 0.4, "max": 0.5, "points": 5},
        {"metric": "x", "last": "NaN", "min": "NaN", "max": "NaN", "points": 1},
    ]
    assert "| loss | nan | 0.4 | 0.5 | 5 |" in table.to_markdown()


def test_when_a_jobs_code_began():
    """The start of the code is after the earlier phases; it is unknown after a spot interruption."""
    assert began(result()) == 1100.0
    assert began(result(kind="processing", phases={"starting": 3.0, "processing": 9.0})) == 1003.0
    assert began(result(phases={"starting": 1.0, "interrupted": 5.0, "training": 9.0})) is None


@pytest.mark.parametrize(("kind", "title"), [(JobFailed, "# fit-C1.0 failed"), (JobStopped, "# fit-C1.0 was stopped")])
def test_a_failure_says_all(kind, title):
    """The page of a failure has the error, its host and exit code, AWS's reason, lines by host, the fix and links."""
    failed = error(kind, last_lines=["algo-2 | two", "algo-1 | one", "algo-2 | three | four"])
    failed.result = result(status="Failed")
    page = Pages(BLOCK).failure(failed)

    assert page.startswith(title)
    for words in (
        kind.__name__, "| **Exit code** | 3 |", "| **Host** | algo-2 |", "AlgorithmError: ValueError: no rows",
        "**algo-1**\n\n```text\none\n```", "**algo-2**\n\n```text\ntwo\nthree | four\n```", "Mend it.",
        "sagemaker/home?region=us-east-1#/jobs/", "[CloudWatch](",
    ):  # fmt: skip
        assert words in page


def test_a_failure_of_which_little_is_known():
    """Unknown details of a failure are left out, and the page still has the message and the fix."""
    page = Pages(BLOCK).failure(error(exit_code=None, host=None, reason="", last_lines=(), link=""))

    assert "Exit code" not in page
    assert "What to do" in page


@given(st.text("`*_[]<>#|~& ab\n", max_size=60))
def test_text_of_a_job_stays_inside_its_block(said):
    """No text of a job can end the code block that shows it."""
    page = Pages(BLOCK).failure(error(reason=said, last_lines=[f"algo-1 | {said}"]))
    inside, fence = [], None
    for line in page.split("\n"):
        found = re.fullmatch(r"(`{3,})(text)?", line)
        if fence is None and found and found[2]:
            fence = found[1]
        elif found and found[1] == fence:
            fence = None
        elif fence:
            inside.append(line)
    assert fence is None
    assert "\n".join(inside).endswith(said)


def test_a_reason_is_no_markup():
    """Names in a reason are escaped, so that they are not read as Markdown."""
    page = Pages(BLOCK).summary(result(reason='ran: input "a_b_c" <script> changed'))

    assert '"a\\_b\\_c" \\<script\\> changed' in page
