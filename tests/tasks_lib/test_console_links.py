"""Links to AWS's console: by kind, region and partition, and none for local projects."""

from __future__ import annotations

import pytest
from aws_doubles import ProjectDouble, make_block

from tasks_lib.aws.console_links import console_url, log_url, s3_url
from tasks_lib.jobs.kinds import PROCESSING, TRAINING


def test_a_job_by_kind_and_region():
    """Training and processing jobs have different pages, in the console of their region."""
    assert console_url(make_block(region="eu-west-1"), TRAINING, "fit-1") == (
        "https://eu-west-1.console.aws.amazon.com/sagemaker/home?region=eu-west-1#/jobs/fit-1"
    )
    assert console_url(make_block(), PROCESSING, "p-1").endswith("#/processing-jobs/p-1")


def test_a_log_as_cloudwatch_escapes_it():
    """The link has slashes escaped twice, first with a dollar sign, as CloudWatch expects, and the job's streams."""
    assert log_url(make_block(), TRAINING, "fit-1").endswith(
        "#logsV2:log-groups/log-group/$252Faws$252Fsagemaker$252FTrainingJobs$3FlogStreamNameFilter$3Dfit-1$252F"
    )


@pytest.mark.parametrize(("uri", "page"), [
    ("s3://a-bucket/demo/fit/state/", "/s3/buckets/a-bucket?region=us-east-1&prefix=demo/fit/state/"),
    ("s3://a-bucket/demo/model.tar.gz", "/s3/object/a-bucket?region=us-east-1&prefix=demo/model.tar.gz"),
    ("s3://a-bucket/a b&c/", "/s3/buckets/a-bucket?region=us-east-1&prefix=a%20b%26c/"),
])  # fmt: skip
def test_an_object_or_a_prefix(uri, page):
    """A prefix links to its list and a key to its object, with special characters escaped."""
    assert s3_url(make_block(), uri).endswith(page)


@pytest.mark.parametrize(("region", "host"), [
    ("cn-north-1", "cn-north-1.console.amazonaws.cn"), ("us-gov-west-1", "us-gov-west-1.console.amazonaws-us-gov.com"),
])  # fmt: skip
def test_other_partitions(region, host):
    """The regions of China and of the US government have their own console hosts."""
    assert console_url(make_block(region=region), TRAINING, "fit-1").startswith(f"https://{host}/")


def test_none_on_this_machine():
    """A local project has no console links."""
    local = ProjectDouble(make_block())
    local.is_local = True

    assert [console_url(local, TRAINING, "x"), log_url(local, TRAINING, "x"), s3_url(local, "s3://b/k")] == [""] * 3
