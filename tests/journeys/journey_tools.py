"""Tools of several journeys: counted requests, access to S3 and SageMaker, a job that waits for the test.

None of it uses the product: S3 and SageMaker are queried with clients of the backend.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import ClassVar

from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, TaskRunFilter, TaskRunFilterId
from waiting import wait_until


@contextmanager
def counting(backend):
    """Yield a dict that has, after the block, how often each operation was requested inside it."""
    before = Counter(backend.status()["requests"])
    made: dict[str, int] = {}
    yield made
    made.update(Counter(backend.status()["requests"]) - before)


def last_task_runs(client, *, of_flows=(), ids=(), count=None):
    """Return task runs with their final states, which Prefect's server gets with a short delay.

    Args:
        client: A client of Prefect.
        of_flows: The flow runs whose task runs are returned. There may be more than expected: Prefect attributes task
            runs that are called later, without a flow, to some earlier flow.
        ids: The task runs to return, in place of `of_flows`.
        count: How many task runs to wait for, at least; by default as many as there are ids.
    """
    flows = FlowRunFilter(id=FlowRunFilterId(any_=list(of_flows))) if of_flows else None
    these = TaskRunFilter(id=TaskRunFilterId(any_=list(ids))) if ids else None

    def ended():
        found = client.read_task_runs(flow_run_filter=flows, task_run_filter=these)
        over = all(run.state and run.state.is_final() for run in found)
        return found if over and len(found) >= (count or len(ids)) else None

    found = {run.id: run for run in wait_until(ended, "the last states of task runs")}
    return [found[each] for each in ids] or list(found.values())


@contextmanager
def in_background(work):
    """Run a function in its own thread with this thread's context, which contains Prefect's settings."""
    with ThreadPoolExecutor(1) as pool:
        try:
            yield pool.submit(copy_context().run, work)
        except BaseException:
            Gate.open_all()  # a failing test would otherwise wait for a job that waits for the test
            raise


class Gate:
    """A gate for which a job waits: `gate.wait` is in the job's command, and the test calls `gate.open()`."""

    made: ClassVar[list] = []

    def __init__(self, path):
        self.path = path
        self.made.append(self)

    @classmethod
    def open_all(cls):
        for gate in cls.made:
            if gate.path.parent.exists():
                gate.open()

    @property
    def wait(self):
        """A shell command that blocks until the gate is open."""
        return f"while [ ! -e {self.path} ]; do sleep 0.05; done"

    def open(self):
        self.path.touch()


class RunLog(logging.Handler):
    """Collects the records of Prefect's task runs, from all threads."""

    def __init__(self):
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self._lock = threading.Lock()

    def __enter__(self):
        logging.getLogger("prefect.task_runs").addHandler(self)
        return self

    def __exit__(self, *_):
        logging.getLogger("prefect.task_runs").removeHandler(self)

    def emit(self, record):
        with self._lock:
            self.records.append(record)

    @property
    def job_lines(self):
        """The lines of jobs' logs, as (`task/host`, line)."""
        return [
            (each.sagemaker_prefix, line)
            for each in list(self.records)
            for line in getattr(each, "sagemaker_lines", ())
        ]

    @property
    def texts(self):
        """The messages of all records."""
        return [each.getMessage() for each in self.records]


class Bucket:
    """Access to a project's folder in S3."""

    def __init__(self, backend, project):
        self._s3 = backend.client("s3")
        self._bucket, self._prefix = project.bucket, project.key_prefix

    def names(self, below=""):
        """Return the keys below the project's folder, relative to it."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix + below)
        return [row["Key"][len(self._prefix) :] for page in pages for row in page.get("Contents", ())]

    def read(self, key):
        return self._s3.get_object(Bucket=self._bucket, Key=self._prefix + key)["Body"].read()

    def write(self, key, body):
        self._s3.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=body)

    def delete(self, below):
        """Delete every object with this prefix."""
        keys = self.names(below)
        assert keys, f"nothing to delete below {below}"
        for key in keys:
            self._s3.delete_object(Bucket=self._bucket, Key=self._prefix + key)

    def uri(self, below=""):
        return f"s3://{self._bucket}/{self._prefix}{below}"


def jobs_of(backend, project, stem):
    """Return the names of a task's jobs in SageMaker, oldest first."""
    client, found = backend.client("sagemaker"), []
    for word in ("Training", "Processing"):
        pages = client.get_paginator(f"list_{word.lower()}_jobs").paginate(NameContains=stem)
        for row in (row for page in pages for row in page[f"{word}JobSummaries"]):
            name = row[f"{word}JobName"]
            if not name.startswith(f"{stem}-"):
                continue
            said = getattr(client, f"describe_{word.lower()}_job")(**{f"{word}JobName": name})
            if said.get("Environment", {}).get("SSM_PROJECT") == project.project:
                found.append((said["CreationTime"], name))
    return [name for _, name in sorted(found)]
