"""Request faults on a real server: what an unmodified boto3 receives, and what the server has done."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
import urllib.request

import pytest
from api_requests import error_of, finished, new_name, training_request
from faulty_server import FaultyServer, faulty, faulty_backend, outcome_of
from waiting import wait_until

from local_sagemaker.faults.client import FaultClient, FaultsRejected
from local_sagemaker.keys import HomeKey

pytestmark = pytest.mark.sampled(10, group="all")

__all__ = ["faulty", "faulty_backend"]


@pytest.fixture
def bucket(faulty) -> str:
    """Create a bucket for one test; return its name."""
    name = new_name("bucket")
    faulty.client("s3").create_bucket(Bucket=name)
    return name


def put(s3, bucket: str, key: str = "k") -> str:
    return outcome_of(s3.put_object, Bucket=bucket, Key=key, Body=b"v")


def keys(s3, bucket: str) -> list[str]:
    return [one["Key"] for one in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]


def test_a_lost_answer_comes_after_the_act(faulty, bucket):
    """`lose`: the connection closes without an answer, and the object exists."""
    s3 = faulty.client("s3")
    with faulty.requests({"kind": "lose", "operation": "PutObject"}):
        seen = put(s3, bucket)

    assert seen == "ConnectionClosedError"
    assert keys(s3, bucket) == ["k"]


def test_a_dropped_request_was_never_acted_upon(faulty, bucket):
    """`drop`: the connection closes without an answer, and nothing is written, even while a body is being sent."""
    s3 = faulty.client("s3")
    with faulty.requests({"kind": "drop", "operation": "PutObject"}):
        small = put(s3, bucket)
        large = outcome_of(s3.put_object, Bucket=bucket, Key="large", Body=b"x" * 8_000_000)

    assert (small, large) == ("ConnectionClosedError", "ConnectionClosedError")
    assert keys(s3, bucket) == []


def test_a_lost_create_leaves_a_job(faulty):
    """`lose` on CreateTrainingJob: the answer is lost, and the job runs."""
    sagemaker, name = faulty.client("sagemaker"), new_name()
    with faulty.requests({"kind": "lose", "operation": "Create*Job"}):
        seen = outcome_of(sagemaker.create_training_job, **training_request(name))

    assert seen == "ConnectionClosedError"
    assert finished(sagemaker, name)["TrainingJobStatus"] == "Completed"


CALLS = {
    "sagemaker": lambda client: client.list_training_jobs,
    "logs": lambda client: client.describe_log_groups,
    "s3": lambda client: client.list_buckets,
    "sts": lambda client: client.get_caller_identity,
    "iam": lambda client: client.list_roles,
    "ssm": lambda client: client.describe_parameters,
}


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("service", "throttled", "expired", "failed"),
    [
        ("sagemaker", "ThrottlingException 400", "ExpiredTokenException 400", "InternalFailure 500"),
        ("logs", "ThrottlingException 400", "ExpiredTokenException 400", "InternalFailure 500"),
        ("s3", "SlowDown 503", "ExpiredToken 400", "InternalError 500"),
        ("sts", "Throttling 400", "ExpiredToken 403", "InternalFailure 500"),
        ("iam", "Throttling 400", "ExpiredToken 403", "InternalFailure 500"),
        ("ssm", "ThrottlingException 400", "ExpiredTokenException 400", "InternalFailure 500"),
    ],
)
def test_each_service_words_errors_its_own_way(faulty, service, throttled, expired, failed):
    """Throttling, expired credentials and internal errors have each service's code and status; then calls succeed."""
    call = CALLS[service](faulty.client(service))
    seen = []
    for kind in ("throttle", "expire", "error"):
        with faulty.requests({"kind": kind, "service": service}):
            seen.append(outcome_of(call))

    assert seen == [throttled, expired, failed]
    assert outcome_of(call) == "ok"


def test_the_service_that_has_no_query_nor_target(faulty):
    """A REST service such as SageMaker Runtime receives its error code in a header."""
    runtime = faulty.client("sagemaker-runtime")
    with faulty.requests({"kind": "throttle", "service": "sagemaker"}):
        assert outcome_of(runtime.invoke_endpoint, EndpointName="e", Body=b"") == "ThrottlingException 429"


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"code": "PreconditionFailed"}, "PreconditionFailed 412"),
        ({"code": "ConditionalRequestConflict"}, "ConditionalRequestConflict 409"),
        ({"code": "OperationAborted"}, "OperationAborted 409"),
        ({"code": "ServiceUnavailable"}, "ServiceUnavailable 503"),
        ({"code": "AccessDenied"}, "AccessDenied 403"),
        ({"code": "Odd", "status": 418, "message": "m & <m>"}, "Odd 418"),
    ],
)
def test_an_error_is_worded_as_wished(faulty, bucket, rule, expected):
    """A known code brings its status and message, another takes those of the rule; nothing is written."""
    s3 = faulty.client("s3")
    with faulty.requests({"kind": "error", "operation": "PutObject", **rule}):
        assert put(s3, bucket) == expected
        message = error_of(s3.put_object, Bucket=bucket, Key="k", Body=b"v")[1]

    assert message == rule.get("message", message) != ""
    assert keys(s3, bucket) == []


@pytest.mark.parametrize(
    ("service", "method", "operation"),
    [
        ("cloudwatch", "list_metrics", "ListMetrics"),
        ("iam", "list_users", "ListUsers"),
        ("scheduler", "list_schedules", "ListSchedules"),
        ("ssm", "describe_parameters", "DescribeParameters"),
    ],
)
def test_operations_have_their_names_in_each_protocol(faulty, service, method, operation):
    """A rule selects an operation by its name in CBOR, query, REST and JSON protocols."""
    call = getattr(faulty.client(service), method)
    with faulty.requests({"kind": "drop", "service": "*", "operation": operation}):
        named = outcome_of(call)
    with faulty.requests({"kind": "drop", "service": "*", "operation": f"{operation}Too"}):
        other = outcome_of(call)

    assert (named, other) == ("ConnectionClosedError", "ok")


def test_an_error_may_come_after_the_act(faulty, bucket):
    """A 500 error with `when: after` comes after the object was written."""
    s3 = faulty.client("s3")
    with faulty.requests({"kind": "error", "when": "after", "operation": "PutObject"}):
        assert put(s3, bucket) == "InternalError 500"

    assert keys(s3, bucket) == ["k"]


def test_modelled_errors_have_their_classes(faulty):
    """boto3 raises the modelled exception class for a code that the service has."""
    sagemaker = faulty.client("sagemaker")
    rule = {"kind": "error", "service": "sagemaker", "code": "ResourceLimitExceeded", "status": 400}
    with faulty.requests(rule), pytest.raises(sagemaker.exceptions.ResourceLimitExceeded):
        sagemaker.create_training_job(**training_request(new_name()))


@pytest.mark.sampled(1, group="waits")
def test_a_slow_answer_loses_an_impatient_client(faulty, bucket):
    """`slow` delays the answer, not the operation: a client that times out has written its object, too."""
    patient, impatient = faulty.client("s3"), faulty.client("s3", read_timeout=1)
    with faulty.requests({"kind": "slow", "seconds": 2.5, "operation": "PutObject"}):
        assert put(impatient, bucket, "impatient") == "ReadTimeoutError"
        assert put(patient, bucket, "patient") == "ok"

    assert keys(patient, bucket) == ["impatient", "patient"]


@pytest.mark.sampled(1, group="waits")
def test_standard_retries_recover(faulty, bucket):
    """With 30% of requests throttled and some answers lost, boto3's standard retries complete every write and read."""
    s3, sagemaker = faulty.client("s3", attempts=8), faulty.client("sagemaker", attempts=8)
    rules = ({"kind": "throttle", "probability": 0.3}, {"kind": "lose", "service": "s3", "probability": 0.1})
    with faulty.requests(*rules, seed=5) as faults:
        assert [put(s3, bucket, f"{n:02}") for n in range(12)] == ["ok"] * 12
        assert outcome_of(sagemaker.list_training_jobs) == "ok"
        fired = [rule["fired"] for rule in faults.show()["requests"]]

    assert all(fired)
    assert len(keys(s3, bucket)) == 12


def test_the_same_seed_fails_the_same_requests(faulty):
    """Which requests fail depends only on the seed and on how many requests have matched, so a run can be repeated."""
    sagemaker = faulty.client("sagemaker")

    def run(seed: int) -> list[str]:
        with faulty.requests({"kind": "throttle", "probability": 0.5}, seed=seed):
            return [outcome_of(sagemaker.list_training_jobs) for _ in range(16)]

    assert run(1) == run(1) != run(2)


def test_what_fired_is_counted_in_the_order_of_rules(faulty, bucket):
    """`nth`, `times` and the order of rules apply, and each rule counts its matched requests and how often it fired."""
    s3 = faulty.client("s3")
    rules = ({"kind": "throttle", "operation": "Put*", "nth": [2]}, {"kind": "expire", "times": 1})
    with faulty.requests(*rules) as faults:
        seen = [put(s3, bucket) for _ in range(3)]
        shown = faults.show()

    assert seen == ["ExpiredToken 400", "SlowDown 503", "ok"]
    assert shown["requests"] == [
        {"kind": "throttle", "operation": "Put*", "nth": [2], "matched": 3, "fired": 1},
        {"kind": "expire", "times": 1, "matched": 3, "fired": 1},
    ]


def test_rules_and_counts_outlive_a_killed_server(own_backend):
    """After `kill -9` and `up`, a rule keeps its counts: it fires only as often as it still may."""
    own_backend.up()
    server = FaultyServer(own_backend)
    s3 = server.client("s3")
    server.faults.set({"requests": [{"kind": "throttle", "operation": "ListBuckets", "nth": [1, 3]}]})
    before = [outcome_of(s3.list_buckets), outcome_of(s3.list_buckets)]
    own_backend.kill()
    own_backend.up()
    after = [outcome_of(s3.list_buckets), outcome_of(s3.list_buckets)]

    assert (before, after) == (["SlowDown 503", "ok"], ["SlowDown 503", "ok"])
    assert server.faults.show()["requests"][0]["matched"] == 4


def in_thread(call, **arguments) -> tuple[threading.Thread, list[str]]:
    """Make a call in a thread; return the thread and the list that receives the outcome."""
    seen: list[str] = []
    thread = threading.Thread(target=lambda: seen.append(outcome_of(call, **arguments)))
    thread.start()
    return thread, seen


@pytest.mark.sampled(1)
@pytest.mark.parametrize(("when", "written"), [("before", []), ("after", ["k"])])
def test_a_held_request_goes_on_when_released(faulty, bucket, when, written):
    """A held request waits before or after its operation, is listed with its number, and is answered when released."""
    s3 = faulty.client("s3")
    with faulty.requests({"kind": "hold", "operation": "PutObject", "when": when}) as faults:
        first = faulty.backend.status()["sequence"]
        thread, seen = in_thread(s3.put_object, Bucket=bucket, Key="k", Body=b"v" * 200_000)
        (held,) = faults.wait_for_held()

        assert keys(s3, bucket) == written
        assert held["number"] == first + 1
        expected = {"service": "s3", "operation": "PutObject", "path": f"/{bucket}/k", "when": when, "rule": 0}
        assert expected.items() <= held.items()
        assert seen == []
        with pytest.raises(FaultsRejected):
            faults.release(held["number"] + 1)
        faults.release(held["number"])
        thread.join(30)

    assert seen == ["ok"]
    assert keys(s3, bucket) == ["k"]


KILLED = """
import boto3, sys
_, endpoint, bucket, access_key, secret_key = sys.argv
keys = {"aws_access_key_id": access_key, "aws_secret_access_key": secret_key}
s3 = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys)
s3.put_object(Bucket=bucket, Key="k", Body=b"v" * 100_000)
"""


@pytest.mark.sampled(1)
@pytest.mark.parametrize(("when", "written"), [("before", []), ("after", ["k"])])
def test_a_client_killed_at_a_held_request(faulty, bucket, when, written):
    """The server notices when the client of a held request is killed; the operation happened before or never does."""
    s3 = faulty.client("s3")
    with faulty.requests({"kind": "hold", "operation": "PutObject", "when": when}) as faults:
        keys_of_home = faulty.backend.keys.access_key, faulty.backend.keys.secret_key
        client = subprocess.Popen([sys.executable, "-c", KILLED, faulty.backend.endpoint, bucket, *keys_of_home])
        try:
            assert faults.wait_for_held(60)
        finally:
            client.send_signal(signal.SIGKILL)
            client.wait()
        wait_until(lambda: not faults.show()["held"], "the held request to be given up")

    assert keys(s3, bucket) == written


def test_clearing_lets_held_requests_go(faulty, bucket):
    """Clearing the rules releases the requests that they hold."""
    s3 = faulty.client("s3")
    faulty.faults.set({"requests": [{"kind": "hold"}]})
    thread, seen = in_thread(s3.list_objects_v2, Bucket=bucket)
    assert len(faulty.faults.wait_for_held()) == 1
    faulty.faults.clear()
    thread.join(30)

    assert seen == ["ok"]
    assert faulty.faults.show() == {"requests": [], "jobs": [], "held": []}


def test_wait_for_held_times_out(faulty):
    """Waiting for a held request returns an empty list after the given time if none is held."""
    began = time.monotonic()

    assert faulty.faults.wait_for_held(0.2) == []
    assert time.monotonic() - began >= 0.2


def test_faults_do_not_reach_the_control_address(faulty):
    """Requests to the control address are neither dropped nor counted, even if a rule drops every request."""
    with faulty.requests({"kind": "drop"}) as faults:
        assert faulty.backend.status()["running"]
        assert faults.show()["requests"] == [{"kind": "drop", "matched": 0, "fired": 0}]


def test_a_bad_document_changes_nothing(faulty):
    """An invalid document is refused with its error, and the current rules stay."""
    with faulty.requests({"kind": "throttle"}) as faults:
        with pytest.raises(FaultsRejected, match="did you mean 'throttle'"):
            faults.set({"requests": [{"kind": "throtle"}]})
        control = {"Authorization": f"Bearer {HomeKey.of(faulty.backend.home).control}"}
        request = urllib.request.Request(f"{faulty.backend.endpoint}/_local/faults", b"{", control, method="PUT")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request)

        assert refused.value.code == 400
        assert len(faults.show()["requests"]) == 1


def test_the_sequence_counts_requests(faulty, bucket):
    """`sequence` in the status is the number of the last request, even if it was dropped."""
    s3 = faulty.client("s3")
    before = faulty.backend.status()["sequence"]
    with faulty.requests({"kind": "drop", "operation": "PutObject"}):
        put(s3, bucket)
    put(s3, bucket)

    assert faulty.backend.status()["sequence"] == before + 2


def test_the_command_line_sets_shows_and_clears(faulty, tmp_path):
    """`faults` sets rules from a file or standard input, shows them as text and as JSON, and reports errors."""
    backend = faulty.backend
    document = {"requests": [{"kind": "throttle", "probability": 0.25}], "jobs": [{"kind": "capacity"}]}
    file = tmp_path / "faults.json"
    file.write_text(json.dumps(document))
    done = backend.run("faults", "set", str(file))

    assert done.returncode == 0, done.stderr
    assert "throttle   fired 0 of 0  probability=0.25" in done.stdout
    assert "faults clear" in done.stdout
    shown = json.loads(backend.run("faults", "show", "--json").stdout)
    assert [len(shown[name]) for name in ("requests", "jobs", "held")] == [1, 1, 0]
    assert "No faults are on." in backend.run("faults", "clear").stdout
    piped = subprocess.run(
        backend.command("faults", "set", "-"),
        input='{"jobs": [{"kind": "quotas"}]}',
        capture_output=True,
        text=True,
        check=False,
    )
    assert (piped.returncode, "did you mean 'quota'?" in piped.stderr) == (1, True)
    assert backend.run("faults", "set").returncode == 2
    assert backend.run("faults", "set", str(tmp_path / "none")).returncode == 1


def test_without_a_server_the_command_line_says_so(own_backend):
    """Without a server, `faults` fails and names the next command."""
    done = own_backend.run("faults", "show")

    assert done.returncode == 1
    assert "up" in done.stderr


def test_the_client_of_the_control_address_needs_a_server(tmp_path):
    """The fault client raises a connection error, and returns no empty answer, if nothing listens on the port."""
    with pytest.raises(OSError, match="refused"):
        FaultClient("http://127.0.0.1:9", "key").show()
