"""Listing, searching and tagging jobs. Most jobs here are rows of the job table that never ran."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from api_requests import error_of, new_name, training_request

from local_sagemaker.job_table import JobTable

pytestmark = pytest.mark.sampled(8, group="all")

BEGIN = datetime(2026, 1, 1, tzinfo=timezone.utc)
JOBS = 250


def _arn(name: str) -> str:
    return f"arn:aws:sagemaker:us-east-1:123456789012:training-job/{name}"


@pytest.fixture(scope="module")
def listed(tmp_path_factory, make_backend):
    """Return a client of a server with 250 training jobs, a minute apart, every fifth Failed, and a processing job."""
    backend = make_backend(tmp_path_factory.mktemp("listed") / "home")
    moment = BEGIN.timestamp()
    with JobTable(backend.home, clock=lambda: moment) as table:
        for number in range(JOBS):
            name = f"{'odd' if number % 2 else 'even'}-{number:03d}"
            request = training_request(name, HyperParameters={"lr": str(number / 100)})
            table.create("training-job", name, _arn(name), request, {"number": str(number)})
            metrics = [{"MetricName": "auc", "Value": number / JOBS, "Timestamp": moment}]
            table.update(
                "training-job", name, status="Completed" if number % 5 else "Failed", FinalMetricDataList=metrics
            )
            moment += 60
        table.create("processing-job", "clean", _arn("clean"), {"ProcessingJobName": "clean"})
        table.update("processing-job", "clean", status="Completed", ExitMessage="done")
    backend.up()
    return backend.client("sagemaker")


def _names(page: dict) -> list[str]:
    return [summary["TrainingJobName"] for summary in page["TrainingJobSummaries"]]


def _all_pages(client, **request) -> list[dict]:
    pages = [client.list_training_jobs(**request)]
    while "NextToken" in pages[-1]:
        pages.append(client.list_training_jobs(**request, NextToken=pages[-1]["NextToken"]))
    return pages


def test_pages_have_every_job_once(listed):
    """250 jobs come in three pages of at most 100, newest first, each job once."""
    pages = _all_pages(listed, MaxResults=100)
    names = [name for page in pages for name in _names(page)]

    assert [len(_names(page)) for page in pages] == [100, 100, 50]
    assert [name[-3:] for name in names] == [f"{number:03d}" for number in reversed(range(JOBS))]


def test_boto3_paginator(listed):
    """boto3's paginator returns all jobs, ten a page, which is AWS's default."""
    pages = list(listed.get_paginator("list_training_jobs").paginate())

    assert len(pages) == JOBS / 10
    assert len({name for page in pages for name in _names(page)}) == JOBS


def test_summary(listed):
    """A job summary has the name, the ARN, the times and the status."""
    summary = listed.list_training_jobs(MaxResults=1)["TrainingJobSummaries"][0]

    assert summary == {
        "TrainingJobName": "odd-249",
        "TrainingJobArn": _arn("odd-249"),
        "CreationTime": BEGIN + timedelta(minutes=249),
        "LastModifiedTime": BEGIN + timedelta(minutes=249),
        "TrainingJobStatus": "Completed",
        "SecondaryStatus": "Completed",
    }


def test_status_filters_after_paging(listed):
    """StatusEquals filters each page after paging, so pages may be short, but no job is missing."""
    pages = _all_pages(listed, MaxResults=100, StatusEquals="Failed")

    assert [len(_names(page)) for page in pages] == [20, 20, 10]


def test_an_empty_page_may_have_a_token(listed):
    """A page whose jobs all have another status is empty and has a token for the next page."""
    page = listed.list_training_jobs(MaxResults=2, StatusEquals="Failed")

    assert _names(page) == []
    assert page["NextToken"]


def test_other_filters(listed):
    """NameContains matches a part of the name; the bounds of creation and modification time are exclusive."""
    bounds = {"After": BEGIN + timedelta(minutes=99), "Before": BEGIN + timedelta(minutes=104)}
    created = {f"CreationTime{side}": moment for side, moment in bounds.items()}
    changed = {f"LastModifiedTime{side}": moment for side, moment in bounds.items()}
    ascending = {"SortBy": "CreationTime", "SortOrder": "Ascending"}

    within = ["even-100", "odd-101", "even-102", "odd-103"]
    assert _names(listed.list_training_jobs(**created, **ascending)) == within
    assert _names(listed.list_training_jobs(**changed, **ascending)) == within
    assert _names(listed.list_training_jobs(NameContains="n-10", **created, **ascending)) == ["even-100", "even-102"]
    assert _names(listed.list_training_jobs(NameContains="nothing")) == []


def test_sorting(listed):
    """Jobs are sorted by name or status, ascending or descending."""
    by_name = _names(listed.list_training_jobs(SortBy="Name", SortOrder="Ascending", MaxResults=2))
    by_status = listed.list_training_jobs(SortBy="Status", SortOrder="Descending", MaxResults=100)

    assert by_name == ["even-000", "even-002"]
    assert [one["TrainingJobStatus"] for one in by_status["TrainingJobSummaries"]] == 50 * ["Failed"] + 50 * [
        "Completed"
    ]


def test_tokens_belong_to_their_request(listed):
    """A damaged token, and a token of a request with other parameters, are refused; only MaxResults may change."""
    token = listed.list_training_jobs(MaxResults=10)["NextToken"]

    assert error_of(listed.list_training_jobs, NextToken="nonsense")[0] == "ValidationException"
    assert "other parameters" in error_of(listed.list_training_jobs, NextToken=token, SortBy="Name")[1]
    assert len(_names(listed.list_training_jobs(NextToken=token, MaxResults=20))) == 20


def test_new_jobs_do_not_shift_later_pages(backend):
    """A job that is created between two pages does not make the second page repeat a job of the first."""
    client = backend.client("sagemaker")
    part = new_name("shift")
    for number in range(3):
        client.create_training_job(**training_request(f"{part}-{number}"))
    first = client.list_training_jobs(NameContains=part, MaxResults=2)
    client.create_training_job(**training_request(f"{part}-3"))
    second = client.list_training_jobs(NameContains=part, MaxResults=2, NextToken=first["NextToken"])

    assert _names(first) == [f"{part}-2", f"{part}-1"]
    assert _names(second) == [f"{part}-0"]


def test_processing_jobs_are_listed_apart(listed):
    """Each kind of job has its own listing."""
    summaries = listed.list_processing_jobs()["ProcessingJobSummaries"]

    assert [(one["ProcessingJobName"], one["ExitMessage"]) for one in summaries] == [("clean", "done")]


def _found(client, *filters: dict, **request) -> list[str]:
    expression = {"SearchExpression": {"Filters": list(filters)}} if filters else {}
    results = client.search(Resource="TrainingJob", **expression, **request)["Results"]
    return [result["TrainingJob"]["TrainingJobName"] for result in results]


@pytest.mark.parametrize(
    ("name", "operator", "value", "found"),
    [
        ("TrainingJobName", "Equals", "odd-007", ["odd-007"]),
        ("TrainingJobName", "Contains", "-01", [f"{'odd' if n % 2 else 'even'}-{n:03d}" for n in range(19, 9, -1)]),
        ("TrainingJobName", "In", "odd-007, odd-009", ["odd-009", "odd-007"]),
        ("Tags.number", "Equals", "12", ["even-012"]),
        (
            "Tags.number",
            "Contains",
            "24",
            [f"{'odd' if n % 2 else 'even'}-{n:03d}" for n in (*range(249, 239, -1), 224, 124, 24)],
        ),
        ("CreationTime", "LessThan", "2026-01-01T00:02:00", ["odd-001", "even-000"]),
        ("CreationTime", "GreaterThanOrEqualTo", "2026-01-01T04:09:00Z", ["odd-249"]),
        ("HyperParameters.lr", "GreaterThan", "2.475", ["odd-249", "even-248"]),
        ("Metrics.auc", "LessThanOrEqualTo", "0.004", ["odd-001", "even-000"]),
        ("AlgorithmSpecification.TrainingImage", "NotEquals", "python:3.12", []),
        ("Environment", "Exists", None, []),
    ],
)
def test_search_filters(listed, name, operator, value, found):
    """Each operator works on names, tags, times, hyperparameters, metrics and nested members."""
    condition = {"Name": name, "Operator": operator, **({"Value": value} if value else {})}

    assert _found(listed, condition, MaxResults=100) == found


def test_search_joins_filters(listed):
    """Filters are joined by And, or by Or if the expression says so; expressions may be nested."""
    failed = {"Name": "TrainingJobStatus", "Operator": "Equals", "Value": "Failed"}
    late = {"Name": "CreationTime", "Operator": "GreaterThan", "Value": "2026-01-01T04:00:00"}
    first = {"Name": "TrainingJobName", "Operator": "Equals", "Value": "even-000"}
    both = listed.search(
        Resource="TrainingJob",
        SearchExpression={"SubExpressions": [{"Filters": [failed, late]}, {"Filters": [first]}], "Operator": "Or"},
    )

    assert _found(listed, failed, late) == ["odd-245"]
    assert [one["TrainingJob"]["TrainingJobName"] for one in both["Results"]] == ["odd-245", "even-000"]


def test_search_pages_and_sorts(listed):
    """Search pages through all hits, counts them and sorts by a property; each hit has its tags."""
    request = {"Resource": "TrainingJob", "SortBy": "TrainingJobName", "SortOrder": "Ascending", "MaxResults": 100}
    first = listed.search(**request)
    pages = list(listed.get_paginator("search").paginate(**request))

    assert first["TotalHits"] == {"Value": JOBS, "Relation": "EqualTo"}
    assert first["Results"][0]["TrainingJob"]["Tags"] == [{"Key": "number", "Value": "0"}]
    assert len({hit["TrainingJob"]["TrainingJobName"] for page in pages for hit in page["Results"]}) == JOBS
    assert error_of(listed.search, Resource="Model")[0] == "ValidationException"


def test_tags(backend):
    """Tags of Create are listed, and can be overwritten, added and deleted."""
    client = backend.client("sagemaker")
    arn = client.create_training_job(**training_request(new_name(), Tags=[{"Key": "a", "Value": "1"}]))[
        "TrainingJobArn"
    ]
    added = client.add_tags(ResourceArn=arn, Tags=[{"Key": "a", "Value": "2"}, {"Key": "b", "Value": "3"}])["Tags"]
    client.delete_tags(ResourceArn=arn, TagKeys=["a", "never there"])

    assert added == [{"Key": "a", "Value": "2"}, {"Key": "b", "Value": "3"}]
    assert client.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "b", "Value": "3"}]


def test_tag_limits(backend):
    """A resource has at most 50 tags, keys with the prefix `aws:` are reserved, and an unknown resource is refused."""
    client = backend.client("sagemaker")
    fifty = [{"Key": f"key-{number}", "Value": ""} for number in range(50)]
    arn = client.create_training_job(**training_request(new_name(), Tags=fifty))["TrainingJobArn"]
    client.add_tags(ResourceArn=arn, Tags=[{"Key": "key-0", "Value": "changed"}])

    assert "at most 50" in error_of(client.add_tags, ResourceArn=arn, Tags=[{"Key": "51st", "Value": ""}])[1]
    assert "reserved" in error_of(client.add_tags, ResourceArn=arn, Tags=[{"Key": "AWS:x", "Value": ""}])[1]
    for other in (f"{arn}x", arn.replace("us-east-1", "eu-west-1"), arn.replace("training-job", "model")):
        assert error_of(client.list_tags, ResourceArn=other)[0] == "ValidationException"
