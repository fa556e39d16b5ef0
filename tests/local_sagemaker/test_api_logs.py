"""CloudWatch Logs over the files that supervisors append to, with an unmodified boto3."""

from __future__ import annotations

import json

import pytest
from api_requests import error_of, new_name

pytestmark = pytest.mark.sampled(5, group="all")

GROUP = "/aws/sagemaker/TrainingJobs"
BEGIN = 1_790_000_000_000  # epoch milliseconds


@pytest.fixture
def logs(backend):
    """Return a CloudWatch Logs client."""
    return backend.client("logs")


@pytest.fixture
def write(backend):
    """Return a function that appends events, one second apart, to a stream as a supervisor does."""

    def append(job: str, messages: list[str], host: str = "algo-1", begin: int = BEGIN, tail: str = "") -> str:
        name = f"{host}-{BEGIN // 1000}"
        path = backend.home / "logs" / GROUP.replace("/", "%2F") / job / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps({"timestamp": begin + 1000 * n, "message": text}) for n, text in enumerate(messages)]
        with path.open("a") as file:
            file.write("".join(f"{line}\n" for line in lines) + tail)
        return f"{job}/{name}"

    return append


def _messages(answer: dict) -> list[str]:
    return [event["message"] for event in answer["events"]]


def _get(logs, stream: str, **more) -> dict:
    return logs.get_log_events(logGroupName=GROUP, logStreamName=stream, **more)


def test_groups_and_streams(logs, write):
    """Groups and streams are described by prefix, ordered by name, with the times of the first and last event."""
    job = new_name()
    streams = [write(job, ["a", "b"], "algo-2"), write(job, ["a"], "algo-1"), write(job, [], "algo-3")]
    groups = logs.describe_log_groups(logGroupNamePrefix="/aws/sagemaker/")["logGroups"]
    described = logs.describe_log_streams(logGroupName=GROUP, logStreamNamePrefix=f"{job}/")["logStreams"]

    assert GROUP in [group["logGroupName"] for group in groups]
    assert [one["logStreamName"] for one in described] == sorted(streams)
    assert (described[1]["firstEventTimestamp"], described[1]["lastEventTimestamp"]) == (BEGIN, BEGIN + 1000)
    assert described[1]["creationTime"] == BEGIN
    assert described[1]["arn"].endswith(f":log-group:{GROUP}:log-stream:{streams[0]}")
    assert "lastEventTimestamp" not in described[2]


def test_stream_pages_and_order(logs, write):
    """Streams are paged; ordered by last event, the latest comes first if `descending` is set."""
    job = new_name()
    # Later than the lines of any job that other tests have run on this server.
    names = [write(job, ["x"], f"algo-{number}", begin=BEGIN + 10**12 * (1 + number)) for number in range(3)]
    first = logs.describe_log_streams(logGroupName=GROUP, logStreamNamePrefix=job, limit=2)
    second = logs.describe_log_streams(
        logGroupName=GROUP, logStreamNamePrefix=job, limit=2, nextToken=first["nextToken"]
    )
    latest = logs.describe_log_streams(logGroupName=GROUP, orderBy="LastEventTime", descending=True, limit=50)

    assert [one["logStreamName"] for page in (first, second) for one in page["logStreams"]] == names
    assert "nextToken" not in second
    found = [one["logStreamName"] for one in latest["logStreams"] if one["logStreamName"] in names]
    assert found == names[::-1]


def test_reading_forwards(logs, write):
    """Reading from the head is paged; at the end the same token comes back, and later finds new events."""
    stream = write(new_name(), ["1", "2", "3"])
    first = _get(logs, stream, startFromHead=True, limit=2)
    second = _get(logs, stream, startFromHead=True, limit=2, nextToken=first["nextForwardToken"])
    third = _get(logs, stream, startFromHead=True, limit=2, nextToken=second["nextForwardToken"])
    write(stream.partition("/")[0], ["4"])
    fourth = _get(logs, stream, startFromHead=True, limit=2, nextToken=third["nextForwardToken"])

    assert [_messages(page) for page in (first, second, third, fourth)] == [["1", "2"], ["3"], [], ["4"]]
    assert second["nextForwardToken"] == third["nextForwardToken"] != fourth["nextForwardToken"]


def test_reading_backwards(logs, write):
    """By default the latest events come, oldest first; backward tokens lead to the head and stay there."""
    stream = write(new_name(), ["1", "2", "3"])
    last = _get(logs, stream, limit=2)
    first = _get(logs, stream, limit=2, nextToken=last["nextBackwardToken"])
    before = _get(logs, stream, limit=2, nextToken=first["nextBackwardToken"])
    again = _get(logs, stream, limit=2, nextToken=before["nextForwardToken"], startFromHead=True)

    assert [_messages(page) for page in (last, first, before, again)] == [["2", "3"], ["1"], [], ["1", "2"]]
    assert before["nextBackwardToken"] == first["nextBackwardToken"]


def test_time_range_of_a_stream(logs, write):
    """`startTime` is inclusive, and `endTime` is exclusive."""
    stream = write(new_name(), ["0", "1", "2", "3"])
    page = _get(logs, stream, startTime=BEGIN + 1000, endTime=BEGIN + 3000, startFromHead=True)

    assert _messages(page) == ["1", "2"]


def test_half_a_line_is_not_yet_an_event(logs, write):
    """A partly written line is not an event until the supervisor completes it."""
    job = new_name()
    whole = json.dumps({"timestamp": BEGIN + 5000, "message": "late"})
    stream = write(job, ["early"], tail=whole[:20])
    before = _get(logs, stream, startFromHead=True)
    described = logs.describe_log_streams(logGroupName=GROUP, logStreamNamePrefix=stream)["logStreams"][0]
    write(job, [], tail=whole[20:] + "\n")
    after = _get(logs, stream, startFromHead=True, nextToken=before["nextForwardToken"])

    assert (_messages(before), _messages(after)) == (["early"], ["late"])
    assert described["lastEventTimestamp"] == BEGIN


def test_a_page_has_at_most_a_megabyte(logs, write):
    """A page has at most 1 MB of events; all events come, forwards and backwards."""
    messages = [f"{number}" + "x" * 200_000 for number in range(8)]
    stream = write(new_name(), messages)
    first = _get(logs, stream, startFromHead=True)
    second = _get(logs, stream, startFromHead=True, nextToken=first["nextForwardToken"])
    last = _get(logs, stream)

    assert _messages(first) + _messages(second) == messages
    assert _messages(last) == messages[3:]


def test_filter_merges_streams_by_time(logs, write):
    """FilterLogEvents merges the hosts of a job by time, in pages, with an ID for each event."""
    job = new_name()
    write(job, ["a0", "a1", "a2"], "algo-1")
    write(job, ["b0", "b1", "b2"], "algo-2", begin=BEGIN + 500)
    paginator = logs.get_paginator("filter_log_events")
    pages = list(paginator.paginate(logGroupName=GROUP, logStreamNamePrefix=f"{job}/", limit=4))
    events = [event for page in pages for event in page["events"]]
    latest = logs.filter_log_events(logGroupName=GROUP, logStreamNamePrefix=job, startFromHead=False, limit=2)

    assert [event["message"] for event in events] == ["a0", "b0", "a1", "b1", "a2", "b2"]
    assert [len(page["events"]) for page in pages] == [4, 2]
    assert len({event["eventId"] for event in events}) == 6
    assert _messages(latest) == ["b2", "a2"]


def test_filter_ranges_and_streams(logs, write):
    """FilterLogEvents reads only the named streams, and both ends of its time range are inclusive."""
    job = new_name()
    stream = write(job, ["0", "1", "2", "3"])
    write(job, ["other"], "algo-2")
    answer = logs.filter_log_events(
        logGroupName=GROUP, logStreamNames=[stream], startTime=BEGIN + 1000, endTime=BEGIN + 2000
    )

    assert _messages(answer) == ["1", "2"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("", [0, 1, 2, 3]),
        ("ERROR", [1, 2]),
        ("ERROR disk", [1]),
        ('"disk full"', [1]),
        ("?WARN ?disk", [1, 3]),
        ("-ERROR", [0, 3]),
        ("ERROR -disk", [2]),
        (r"%step \d+%", [0]),
    ],
)
def test_filter_patterns(logs, write, pattern, found):
    """Filter patterns may be terms, phrases, alternatives, exclusions and regular expressions."""
    job = new_name()
    messages = ["step 12", "ERROR: disk full", "ERROR: full disc", "WARN: slow"]
    write(job, messages)
    answer = logs.filter_log_events(logGroupName=GROUP, logStreamNamePrefix=job, filterPattern=pattern)

    assert _messages(answer) == [messages[number] for number in found]


def test_what_is_not_there(logs, write):
    """Unknown groups and streams are ResourceNotFoundException, with AWS's message."""
    stream = write(new_name(), ["x"])
    group_error = ("ResourceNotFoundException", "The specified log group does not exist.")
    stream_error = ("ResourceNotFoundException", "The specified log stream does not exist.")

    assert error_of(logs.describe_log_streams, logGroupName="/none") == group_error
    assert error_of(logs.get_log_events, logGroupName="/none", logStreamName=stream) == group_error
    assert error_of(logs.get_log_events, logGroupName=GROUP, logStreamName=f"{stream}0") == stream_error
    assert error_of(logs.filter_log_events, logGroupName=GROUP, logStreamNames=["none/none"]) == stream_error
    assert logs.describe_log_streams(logGroupName=GROUP, logStreamNamePrefix=new_name())["logStreams"] == []


def test_refused_parameters(logs, write):
    """Parameters that CloudWatch refuses, and filter patterns that are not implemented, are refused, not ignored."""
    stream = write(new_name(), ["x"])
    both = {"logStreamNames": [stream], "logStreamNamePrefix": "a"}
    codes = {
        error_of(logs.filter_log_events, logGroupName=GROUP, **both)[0],
        error_of(logs.filter_log_events, logGroupName=GROUP, filterPattern="{ $.level = 1 }")[0],
        error_of(logs.describe_log_streams, logGroupName=GROUP, logStreamNamePrefix="a", orderBy="LastEventTime")[0],
        error_of(logs.get_log_events, logGroupName=GROUP, logStreamName=stream, nextToken="nonsense")[0],
        error_of(logs.get_log_events, logStreamName=stream)[0],
    }

    assert codes == {"InvalidParameterException"}


def test_group_by_arn(logs, write):
    """A log group may be named by its ARN."""
    stream = write(new_name(), ["x"])
    arn = logs.describe_log_groups(logGroupNamePrefix=GROUP)["logGroups"][0]["logGroupArn"]

    assert _messages(logs.get_log_events(logGroupIdentifier=arn, logStreamName=stream)) == ["x"]
