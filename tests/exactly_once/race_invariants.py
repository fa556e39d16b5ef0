"""What must hold after any race, read from SageMaker and S3 with the tests' own clients."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from waiting import wait_until

PATIENCE_SECONDS = 120
_LIVE = {"InProgress", "Stopping"}


@dataclass(frozen=True)
class Seen:
    """A job as SageMaker describes it; times in epoch seconds."""

    name: str
    status: str
    fingerprint: str
    created: float
    ended: float


class TaskSeen:
    """A task, seen without the product.

    Args:
        backend: The local SageMaker.
        bucket: The project's bucket.
        project: Name of the project.
        task: Name of the task.
    """

    def __init__(self, backend: Any, bucket: str, project: str, task: str) -> None:
        self._sagemaker, self._s3 = backend.client("sagemaker"), backend.client("s3")
        self.bucket, self.prefix, self._project, self._task = bucket, f"{project}/{task}/", project, task

    def jobs(self) -> list[Seen]:
        """Return all its jobs, oldest first."""
        found = [*self._of("Training"), *self._of("Processing")]
        return sorted(found, key=lambda job: job.created)

    def _of(self, word: str) -> list[Seen]:
        pages = self._sagemaker.get_paginator(f"list_{word.lower()}_jobs").paginate(NameContains=f"{self._task}-")
        names = [row[f"{word}JobName"] for page in pages for row in page[f"{word}JobSummaries"]]
        return [job for name in names if (job := self._described(word, name))]

    def _described(self, word: str, name: str) -> Seen | None:
        said = getattr(self._sagemaker, f"describe_{word.lower()}_job")(**{f"{word}JobName": name})
        variables, ended = said["Environment"], said.get(f"{word}EndTime")
        if (variables["SSM_PROJECT"], variables["SSM_TASK"]) != (self._project, self._task):
            return None
        over = ended.timestamp() if ended else float("inf")
        created = said["CreationTime"].timestamp()
        return Seen(name, said[f"{word}JobStatus"], variables["SSM_FINGERPRINT"], created, over)

    def keys(self, below: str = "") -> list[str]:
        """Return the keys below the task's folder, relative to it."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix + below)
        return [row["Key"][len(self.prefix) :] for page in pages for row in page.get("Contents", ())]

    def document(self, key: str) -> Any:
        """Return a JSON document of the task."""
        return json.loads(self._s3.get_object(Bucket=self.bucket, Key=self.prefix + key)["Body"].read())

    def write(self, key: str, body: bytes = b"x") -> None:
        """Write an object into the task's folder."""
        self._s3.put_object(Bucket=self.bucket, Key=self.prefix + key, Body=body)


def assert_exactly_once(task: TaskSeen, *, completed: int = 1, works: int = 1) -> list[Seen]:
    """Check that a task without waiters is as a single call would have left it; return its jobs.

    Args:
        task: The task.
        completed: How many jobs of one fingerprint may have completed: 1, plus 1 for each forced run.
        works: The number of fingerprints.
    """
    assert [job for job in task.jobs() if job.status == "InProgress"] == []  # a job that still runs costs money
    wait_until(lambda: not [job for job in task.jobs() if job.status in _LIVE], "what was stopped to have ended")
    jobs = task.jobs()
    by_work = defaultdict(list)
    for job in jobs:
        by_work[job.fingerprint].append(job)
    assert len(by_work) == works
    for work, its_jobs in by_work.items():
        _assert_one_after_another(its_jobs)
        _assert_recorded(task, work, its_jobs, completed)
    assert task.keys("_ledger/interest/") == []
    return jobs


def _assert_recorded(task: TaskSeen, work: str, jobs: list[Seen], most: int) -> None:
    done = [job for job in jobs if job.status == "Completed"]
    assert 1 <= len(done) <= most, jobs
    entry = task.document(f"_ledger/{work}.json")
    assert entry["record"]["job"] == done[-1].name
    assert entry["record"]["attempt"] == len(entry["spent"]) + 1 == len(jobs)


def _assert_one_after_another(jobs: list[Seen]) -> None:
    for earlier, later in pairwise(jobs):
        assert earlier.ended <= later.created, f"two live jobs at once: {earlier} and {later}"


def assert_one_writer(task: TaskSeen) -> None:
    """Check that no two jobs of a task with state were ever live at the same time, whatever their fingerprints."""
    _assert_one_after_another(task.jobs())
