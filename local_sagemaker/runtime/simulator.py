"""Runs the simulated jobs: one thread of the server updates all of them when they are due.

Simulated jobs have no supervisors, because a load test cannot afford five hundred processes. The simulator writes each
status when it is due and does not compute it at a request, because listings sort and filter by the table's columns. The
progress of a job is in the table, so that a new server continues after a killed one.
"""

from __future__ import annotations

import heapq
import io
import logging
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from local_sagemaker.job_faults import JobFaults
from local_sagemaker.job_table import JobTable
from local_sagemaker.jobs import Job, JobFinished, JobUnknown
from local_sagemaker.kinds import KINDS
from local_sagemaker.runtime import final_status
from local_sagemaker.runtime.provisioning import LAUNCHING, NO_CAPACITY, Provisioner
from local_sagemaker.runtime.role_store import store_of_job
from local_sagemaker.runtime.runtime_spec import JobFailure, S3Location
from local_sagemaker.runtime.tail import log_event
from local_sagemaker.runtime.workspace import Outcome, Progress, Workspace
from local_sagemaker.s3.errors import S3Error
from local_sagemaker.s3.store import ObjectStore
from local_sagemaker.simulation import read_simulation

log = logging.getLogger(__name__)

_STOP_LOOK = 0.2  # seconds between checks for stop requests, which other processes can make too
_FILE, _CONTENT = "simulated.txt", b"No job has made this; its image was local/simulated.\n"
_TRAINING = "Training image download completed. Training in progress."
_RESUMES = "simulated.resumes"  # the job field with the end of `Pending`; Describe does not show it


class Simulator:
    """Runs all simulated jobs of one home.

    Args:
        home: the data directory.
        jobs: the table of jobs.
        store: the object store.
        clock: returns epoch seconds.
    """

    def __init__(self, home: Path, jobs: JobTable, store: ObjectStore, clock: Callable[[], float] = time.time) -> None:
        self._home = home
        self._jobs = jobs
        self._store = store
        self._faults = JobFaults(jobs.database)
        self._clock = clock
        self._due: list[tuple[float, str, Job]] = []
        self._changed = threading.Condition()

    def start(self) -> None:
        """Take over the live jobs of an earlier server, and start the thread."""
        for job in self._jobs.live("simulated"):
            self._schedule(job, _moment(job))
        threading.Thread(target=self._work, name="simulator", daemon=True).start()

    def add(self, job: Job) -> None:
        """Schedule a new job."""
        self._schedule(job, job.created)

    def stop_all(self) -> None:
        """Stop the jobs with a stop request. It needs no thread, so `down` can call it when no server runs."""
        for job in self._jobs.stopping("simulated"):
            self._step(job)

    def _schedule(self, job: Job, moment: float) -> None:
        with self._changed:
            heapq.heappush(self._due, (moment, job.arn, job))
            self._changed.notify()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._due:
                    self._changed.wait()
                wait = self._due[0][0] - self._clock()
                if wait > 0:
                    self._changed.wait(min(wait, _STOP_LOOK))
            try:
                self.tick()
            except Exception:  # retry, as for jobs with supervisors: a full disk may have space later
                log.exception("simulated jobs could not go on; trying again")
                time.sleep(_STOP_LOOK)

    def tick(self) -> None:
        """Handle all stop requests and all jobs that are due."""
        self.stop_all()
        job = self._next()
        while job is not None:
            try:
                self._step(job)
            except BaseException:
                self._schedule(job, self._clock() + _STOP_LOOK)
                raise
            job = self._next()

    def _next(self) -> Job | None:
        with self._changed:
            return heapq.heappop(self._due)[2] if self._due and self._due[0][0] <= self._clock() else None

    def _step(self, waiting: Job) -> None:
        """Do the next step of a job, and schedule the one after it."""
        try:
            job = self._jobs.get(waiting.kind, waiting.name)
            if job.finished:
                return
            if job.stop_requested:
                self._end(job, final_status.stopped("stop", self._clock()))
            elif _started(job) is None:
                self._provision(job)
            else:
                self._finish(job)
        except (JobUnknown, JobFinished):
            return  # the job ended, or was deleted, since it was scheduled

    def _provision(self, job: Job) -> None:
        provisioner = Provisioner(job, self._faults)
        if _RESUMES not in job.fields:
            resumes = self._clock() + provisioner.delay()
            if resumes > self._clock():
                job = self._update(job, "Pending", LAUNCHING, {_RESUMES: resumes})
                self._schedule(job, _moment(job))
                return
        chosen = provisioner.choose()
        if chosen is None:
            self._end(job, final_status.failed(NO_CAPACITY, self._clock()))
            return
        self._begin(job, KINDS[job.kind].selection(job.request, chosen))

    def _begin(self, job: Job, selected: dict[str, Any]) -> None:
        now = self._clock()
        self._print(job, now, now, f"simulated: {job.name} started")
        job = self._update(job, "Training", _TRAINING, {KINDS[job.kind].start_time: now, **selected})
        self._schedule(job, _moment(job))

    def _update(self, job: Job, secondary: str, message: str, fields: dict[str, Any]) -> Job:
        return self._jobs.update(job.kind, job.name, secondary=secondary, message=message, **fields)

    def _finish(self, job: Job) -> None:
        simulation, started = read_simulation(KINDS[job.kind].definition_of(job.request)), _started(job) or job.created
        now = self._clock()
        outcome = final_status.completed(now)
        if simulation.fails:
            outcome = final_status.host_failed(KINDS[job.kind], "algo-1", 1, "the simulated job was to fail", now)
        elif simulation.seconds > _max_runtime(job):
            outcome = final_status.stopped("max-runtime", now)
        else:
            outcome = self._deliver(job) or outcome
        self._print(job, started, now, f"simulated: {job.name} ended, {outcome.status}")
        self._end(job, outcome)

    def _deliver(self, job: Job) -> Outcome | None:
        """Upload the artifacts of a job; return the outcome `Failed` if that is not possible."""
        try:
            for place, content in _artifacts(job):
                with store_of_job(job, self._home, self._store).new_upload() as upload:
                    upload.write(content)
                    upload.commit(place.bucket, place.key)
        except (S3Error, JobFailure) as error:
            return final_status.failed(f"ClientError: Artifact upload failed: {error}", self._clock())
        return None

    def _print(self, job: Job, started: float, now: float, line: str) -> None:
        stream = Workspace(self._home, job.kind, job.name).stream("algo-1", int(started))
        stream.parent.mkdir(parents=True, exist_ok=True)
        with stream.open("a") as file:
            file.write(log_event(int(now * 1000), line.encode()))

    def _end(self, job: Job, outcome: Outcome) -> None:
        progress = Progress(job.created, _started(job))
        self._jobs.update(job.kind, job.name, **KINDS[job.kind].end(progress, outcome))


def _started(job: Job) -> float | None:
    return job.fields.get(KINDS[job.kind].start_time)


def _moment(job: Job) -> float:
    """Return the epoch seconds at which the next step of a job is due."""
    started = _started(job)
    if started is not None:
        return started + min(read_simulation(KINDS[job.kind].definition_of(job.request)).seconds, _max_runtime(job))
    return float(job.fields.get(_RESUMES, job.created))


def _max_runtime(job: Job) -> float:
    return KINDS[job.kind].max_runtime_of(job.request)


def _artifacts(job: Job) -> Iterator[tuple[S3Location, bytes]]:
    """Yield the location and content of each artifact of a simulated job, one for each result of a real job."""
    for place in KINDS[job.kind].results(job):
        if place.key.endswith(".tar.gz"):
            yield place, _archive()
        else:
            yield S3Location(place.bucket, place.below(_FILE)), _CONTENT


@cache
def _archive() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo(_FILE)
        member.size = len(_CONTENT)
        archive.addfile(member, io.BytesIO(_CONTENT))
    return packed.getvalue()
