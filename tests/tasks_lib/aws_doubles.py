"""Doubles of AWS's clients, in place of those that `SageMakerProject.client` returns.

moto's SageMaker is not used: its jobs are `Completed` at once and a name can be used twice.
Its S3 and IAM are used, by one thread at a time.
"""

from __future__ import annotations

import datetime as dt
import itertools
import threading
import time
from collections import Counter
from functools import partial
from typing import Any

import boto3
from botocore.exceptions import ClientError
from prefect_aws import AwsCredentials

from blocks import SageMakerProject

ACCOUNT = "123456789012"
BUCKET = "a-bucket"
FIRST = 1_800_000_000.0


def make_block(**fields):
    """Return a block of an AWS project."""
    given = {
        "project": "demo",
        "bucket": BUCKET,
        "region": "us-east-1",
        "role": "arn:aws:iam::123456789012:role/jobs",
        "image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/image:1",
        "credentials": AwsCredentials(aws_access_key_id="key", aws_secret_access_key="secret"),
        "spot": False,
    }
    return SageMakerProject(**(given | fields))


def client_error(code: str, message: str = "", operation: str = "Anything") -> ClientError:
    """Return the exception that botocore raises for an AWS error code."""
    return ClientError({"Error": {"Code": code, "Message": message}}, operation)


class SageMakerDouble:
    """A SageMaker in memory: names are unique, errors are real, and every call is recorded with its time.

    Jobs stay `InProgress` until a test ends them, or end at once if `at_create` ends them.
    """

    def __init__(self, at_create=None, clock=time.monotonic, *, words=None, shown=()):
        """Make the double.

        `words` maps a kind's statuses to its own words; Describe shows the request fields in `shown`.
        """
        self.words: dict[str, dict[str, str]] = words or {}
        self.shown = shown
        self.jobs: dict[tuple[str, str], dict[str, Any]] = {}
        self.calls: list[tuple[str, float]] = []
        self.faults: dict[str, list[BaseException]] = {}
        self.at_create = at_create
        self._clock = clock
        self._created = itertools.count()
        self._lock = threading.Lock()
        self._called = threading.Condition()
        self.meta = _model_of_sagemaker()

    # -- for tests ----------------------------------------------------------------------------------------------

    def count(self, verb: str) -> int:
        return Counter(name for name, _ in self.calls)[verb]

    def times(self, verb: str) -> list[float]:
        return [at for name, at in self.calls if name == verb]

    def wait_for(self, verb: str, times: int) -> None:
        """Wait until the verb was called at least `times` times."""
        with self._called:
            assert self._called.wait_for(lambda: self.count(verb) >= times, timeout=60), f"{verb} was not called"

    def fail(self, verb: str, *errors: BaseException) -> None:
        """Make the next calls of a verb raise these errors, one each."""
        self.faults.setdefault(verb, []).extend(errors)

    def add(self, name: str, *, kind="Training", status="InProgress", **more: Any) -> dict[str, Any]:
        noun = f"{kind}Job"
        with self._lock:
            self.jobs[kind, name] = {
                f"{noun}Name": name,
                f"{noun}Arn": f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:{kind.lower()}-job/{name}",
                f"{noun}Status": self._word(kind, status),
                "CreationTime": _moment(FIRST + next(self._created)),
                "Environment": {},
                **more,
            }
            return self.jobs[kind, name]

    def end(self, name: str, status="Completed", *, kind="Training", **more: Any) -> None:
        with self._lock:
            self.jobs[kind, name] |= {
                f"{kind}JobStatus": self._word(kind, status),
                f"{kind}EndTime": _moment(FIRST + 3600),
                **more,
            }

    def _word(self, kind: str, status: str) -> str:
        return self.words.get(kind, {}).get(status, status)

    # -- for the code under test --------------------------------------------------------------------------------

    def __getattr__(self, method: str) -> Any:
        """Answer the operations of any kind of job: `create_training_job`, `list_processing_jobs`."""
        verb, _, rest = method.partition("_")
        kind, _, job = rest.rpartition("_")
        if verb not in ("create", "describe", "stop", "list") or job not in ("job", "jobs"):
            raise AttributeError(method)
        return partial(getattr(self, f"_{verb}"), kind.title().replace("_", ""))

    def _enter(self, verb):
        with self._called:
            self.calls.append((verb, self._clock()))
            self._called.notify_all()
            fault = self.faults[verb].pop(0) if self.faults.get(verb) else None
        if fault:
            raise fault

    def _create(self, kind, **request):
        with self._called:  # a thread that is notified of the call finds the job
            self._enter("create")
            name = request[f"{kind}JobName"]
            if (kind, name) in self.jobs:
                raise client_error("ResourceInUse", "Job name must be unique.", f"Create{kind}Job")
            told = {key: value for key, value in request.items() if key in ("Environment", *self.shown)}
            job = self.add(name, kind=kind, request=request, **told)
        if self.at_create:
            self.at_create(self, kind, job)
        return {f"{kind}JobArn": job[f"{kind}JobArn"]}

    def _describe(self, kind, **request):
        job = dict(self.jobs.get((kind, request[f"{kind}JobName"]), {}))  # read before a test may end the job
        self._enter("describe")
        if not job:
            raise client_error("ValidationException", "Requested resource not found.", f"Describe{kind}Job")
        return job

    def _stop(self, kind, **request):
        with self._called:
            self._enter("stop")
            job = self.jobs[kind, request[f"{kind}JobName"]]
            if job[f"{kind}JobStatus"] != self._word(kind, "InProgress"):
                raise client_error("ValidationException", "The request was rejected.", f"Stop{kind}Job")
            job[f"{kind}JobStatus"] = self._word(kind, "Stopping")
        return {}

    def _list(self, kind, **request):
        self._enter("list")
        with self._lock:
            rows = [job for (of, _), job in self.jobs.items() if of == kind]
        rows = [row for row in rows if row["CreationTime"] > request.get("CreationTimeAfter", _moment(0))]
        rows = [row for row in rows if request.get("NameContains", "") in row[f"{kind}JobName"]]
        rows.sort(key=lambda row: row["CreationTime"], reverse=True)
        start, size = int(request.get("NextToken", 0)), request["MaxResults"]
        more = {"NextToken": str(start + size)} if start + size < len(rows) else {}
        page = rows[start : start + size]  # AWS filters a page by status after the page was cut
        if "StatusEquals" in request:
            page = [row for row in page if row[f"{kind}JobStatus"] == request["StatusEquals"]]
        return {f"{kind}JobSummaries": page, **more}


class LogsDouble:
    """A CloudWatch Logs with one page of streams, and with forward tokens as AWS gives them."""

    def __init__(self):
        self.streams: dict[str, list[tuple[float, str]]] = {}
        self.faults: list[BaseException] = []

    def write(self, stream: str, *lines: str, at=FIRST) -> None:
        self.streams.setdefault(stream, []).extend((at + index, line) for index, line in enumerate(lines))

    def get_paginator(self, operation):
        assert operation == "describe_log_streams"
        return self

    def paginate(self, *, logGroupName, logStreamNamePrefix):  # noqa: N803 - AWS's names
        if self.faults:
            raise self.faults.pop(0)
        if not self.streams:
            raise client_error("ResourceNotFoundException", "The specified log group does not exist.")
        yield {"logStreams": [{"logStreamName": name} for name in self.streams if name.startswith(logStreamNamePrefix)]}

    def get_log_events(self, *, logStreamName, nextToken="f/0", **_):  # noqa: N803 - AWS's names
        start = int(nextToken.removeprefix("f/"))
        events = self.streams[logStreamName][start : start + 3]
        return {
            "events": [{"timestamp": int(at * 1000), "message": text} for at, text in events],
            "nextForwardToken": f"f/{start + len(events)}",
        }


class UnreadableQuotas:
    """A Service Quotas that denies access; moto has none."""

    def get_paginator(self, _):
        raise client_error("AccessDeniedException", "not authorized", "ListServiceQuotas")


class ProjectDouble:
    """A real block whose clients of some services are doubles."""

    def __init__(self, block, **clients):
        self._block, self._doubles = block, {"service-quotas": UnreadableQuotas(), **clients}
        self.forgotten, self.woken = 0, 0

    def __getattr__(self, name):
        return getattr(self._block, name)

    def client(self, service):
        return self._doubles.get(service) or self._block.client(service)

    def forget_clients(self):
        self.forgotten += 1

    def drop_dead_clients(self):
        self.woken += 1


def _moment(seconds):
    return dt.datetime.fromtimestamp(seconds, dt.timezone.utc)


_MODEL = []


def _model_of_sagemaker():
    """Return the client's metadata with botocore's service model, loaded once because it is large."""
    if not _MODEL:
        client = boto3.client(
            "sagemaker", region_name="us-east-1", aws_access_key_id="none", aws_secret_access_key="none"
        )
        _MODEL.append(client.meta)
    return _MODEL[0]
