"""What a flow left, in a form that can be compared: jobs, objects, ledger, results, heartbeats.

All of it is read from S3 and SageMaker with the tests' own clients, never through the product.

What is *not* compared, and why:

- times (`created`, `seconds`, `job_seconds`, `billable_seconds`, the times of `metric_history`, the durations of
  `phases`; the names of the phases are compared), because they depend on the clock;
- the project's name and the two hashes that depend on it: the hash in a job's name, and the fingerprint of a task that
  reads another task's output, because the name of a job is in that input. Each fingerprint is replaced by the name of
  its task, so a wrong one shows;
- `output_listing`, a digest of ETags: SageMaker's tarballs contain times. Their contents are compared instead. If the
  digest were wrong, the next run would not skip;
- ids of flow runs (`forced_in`, `flow_run`): only whether there is one;
- `cached` and `reason` of results, because the run after a crash found the job and says so; and `origin`, because it
  names the home, and each bench has its own;
- the heartbeats below `_ledger/interest/`, which are checked separately.

The number of an attempt *is* compared, although the promise does not require it: a killed client closes no attempt.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

BUCKET = "local-sagemaker"
KINDS = ("Processing", "Training")
_LIVE = {"InProgress", "Stopping", "Pending"}
_JOB_HASH = re.compile(r"-[0-9a-f]{16}-(?=\d)")
_ENTRY = re.compile(r"(?P<task>[^/]+)/_ledger/(?P<work>[0-9a-f]{64})\.json")
_INTEREST = "/_ledger/interest/"
_TIMES = ("created", "seconds", "job_seconds", "billable_seconds", "output_listing")
_WITHOUT: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys((*_TIMES, "forced_in", "flow_run"), bool),
    "phases": list,
    "metric_history": lambda value: {name: [point[1] for point in points] for name, points in value.items()},
}
_OF_THE_CALL = {"cached", "reason", "origin"}


@dataclass(frozen=True)
class JobSeen:
    """A job as SageMaker describes it."""

    name: str
    task: str
    work: str
    status: str
    created: float
    ended: float | None

    @property
    def live(self) -> bool:
        return self.status in _LIVE


@dataclass(frozen=True)
class Picture:
    """Everything that exists of one project.

    Args:
        jobs: Its jobs, oldest first.
        content: Its objects by key; in both, what may differ between runs is replaced.
        waiting: The keys of the heartbeats of its jobs' waiters.
    """

    jobs: tuple[JobSeen, ...]
    content: dict[str, Any]
    waiting: frozenset[str]


@dataclass
class Camera:
    """Reads the projects of one local SageMaker.

    Args:
        backend: The local SageMaker.
    """

    backend: Any
    _since: datetime = datetime(2000, 1, 1, tzinfo=timezone.utc)

    def jobs(self, project: str) -> tuple[JobSeen, ...]:
        """Return the jobs of a project, oldest first."""
        found = [job for word in KINDS for job in self._jobs_of(word, project)]
        return tuple(sorted(found, key=lambda job: job.created))

    def statuses(self, stem: str) -> list[str]:
        """Return the statuses of all jobs whose names contain a stem, by listings alone: no flow here lists jobs."""
        return [row[f"{word}JobStatus"] for word in KINDS for row in self._rows(word, stem)]

    def waiting(self, project: str) -> frozenset[str]:
        """Return the keys of the heartbeats of a project's jobs."""
        return frozenset(key for key in self._keys(project) if _INTEREST in key)

    def picture(self, project: str) -> Picture:
        """Return everything that exists of a project."""
        keys = self._keys(project)
        bodies = {key: self._body(project, key) for key in keys if _INTEREST not in key}
        same = _Sameness(project, bodies)
        content = {same.text(key): same.content(key, body) for key, body in bodies.items()}
        return Picture(self.jobs(project), content, frozenset(key for key in keys if _INTEREST in key))

    def results(self, project: str, results: Sequence[dict[str, Any]], picture: Picture) -> list[dict[str, Any]]:
        """Return the results of a flow without what may differ."""
        same = _Sameness(project, {f"{job.task}/_ledger/{job.work}.json": b"" for job in picture.jobs})
        return [
            {name: same.value(name, value) for name, value in result.items() if name not in _OF_THE_CALL}
            for result in results
        ]

    def _rows(self, word: str, stem: str) -> Iterator[dict[str, Any]]:
        lister = self.backend.client("sagemaker").get_paginator(f"list_{word.lower()}_jobs")
        for page in lister.paginate(NameContains=stem, CreationTimeAfter=self._since, MaxResults=100):
            yield from page[f"{word}JobSummaries"]

    def _jobs_of(self, word: str, project: str) -> Iterator[JobSeen]:
        describe = getattr(self.backend.client("sagemaker"), f"describe_{word.lower()}_job")
        for row in self._rows(word, "-"):
            said = describe(**{f"{word}JobName": row[f"{word}JobName"]})
            variables = said["Environment"]
            if variables["SSM_PROJECT"] == project:
                ended = said.get(f"{word}EndTime")
                yield JobSeen(
                    row[f"{word}JobName"],
                    variables["SSM_TASK"],
                    variables["SSM_FINGERPRINT"],
                    said[f"{word}JobStatus"],
                    said["CreationTime"].timestamp(),
                    ended.timestamp() if ended else None,
                )

    def forget_before(self, moment: float) -> None:
        """Ignore jobs created before a time: each takes a call to describe."""
        self._since = datetime.fromtimestamp(moment, timezone.utc)

    def _keys(self, project: str) -> list[str]:
        prefix = f"{project}/"
        pages = self.backend.client("s3").get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return [row["Key"][len(prefix) :] for page in pages for row in page.get("Contents", ())]

    def _body(self, project: str, key: str) -> bytes:
        return self.backend.client("s3").get_object(Bucket=BUCKET, Key=f"{project}/{key}")["Body"].read()


class _Sameness:
    """Replaces what may differ between two runs in texts and values.

    Args:
        project: The project's name.
        keys: The keys of its objects. The keys of the ledgers map fingerprints to tasks.
    """

    def __init__(self, project: str, keys: Sequence[str] | dict[str, bytes]) -> None:
        found = [match for match in map(_ENTRY.fullmatch, keys) if match]
        self._names = {match["work"]: f"<work of {match['task']}>" for match in found}
        self._project = project

    def text(self, text: str) -> str:
        for name, stands_for in self._names.items():
            text = text.replace(name, stands_for)
        return _JOB_HASH.sub("-<hash>-", text).replace(self._project, "<project>")

    def content(self, key: str, body: bytes) -> Any:
        if key.endswith(".json"):
            return self.value("", json.loads(body))
        if "/output/" in key and key.endswith(".tar.gz"):
            with tarfile.open(fileobj=io.BytesIO(body)) as tar:
                files = (member for member in tar if member.isfile())
                return {member.name: tar.extractfile(member).read().decode() for member in files}
        return body.decode() if len(body) < 200 else hashlib.sha256(body).hexdigest()

    def value(self, name: str, value: Any) -> Any:
        if name in _WITHOUT:
            return _WITHOUT[name](value)
        if isinstance(value, dict):
            return {self.text(each): self.value(each, below) for each, below in value.items()}
        if isinstance(value, list):
            return [self.value("", each) for each in value]
        return self.text(value) if isinstance(value, str) else value


def differences(expected: Any, actual: Any, where: str = "") -> list[str]:
    """Return where two values differ, as deep in their structure as possible."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        names = sorted(expected.keys() | actual.keys())
        nothing = "<nothing>"
        return [
            each
            for name in names
            for each in differences(expected.get(name, nothing), actual.get(name, nothing), f"{where}/{name}")
        ]
    if isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        pairs = enumerate(zip(expected, actual, strict=True))
        return [each for number, (one, other) in pairs for each in differences(one, other, f"{where}[{number}]")]
    return [] if expected == actual else [f"{where}: {_short(actual)} instead of {_short(expected)}"]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 160 else text[:157] + "…"


def overlaps(jobs: Sequence[JobSeen]) -> list[str]:
    """Return which jobs with the same fingerprint were live at the same time."""
    return [
        f"{one.name} and {other.name} were live at one time, with one fingerprint"
        for one, other in itertools.combinations(jobs, 2)
        if one.work == other.work and (one.ended is None or other.created < one.ended)
    ]
