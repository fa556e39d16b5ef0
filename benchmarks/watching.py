"""What it costs to wait for many jobs at once, against a describe-per-job loop, as ratios in one run.

    python benchmarks/watching.py [--jobs 500] [--few 20] [--only tasks] [--end spread]

Four ways of waiting, each in a process of its own, for simulated jobs of a temporary local SageMaker: whole tasks in a
flow (`sm.train.submit`), Prefect's tasks that only wait for the moment, the watcher alone, and a thread for each job
that describes it every 5 s, as the SageMaker SDK's `wait` does. The jobs end one after the other (`spread`) or at one
moment (`together`). Prints memory and CPU seconds of the waiting process, its requests, and the delay from a job's end,
as SageMaker tells it, to the end of the wait for it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

_EVERY = 5.0  # seconds between two polls of the SDK's `wait`
_JOBS_A_SECOND = 10.0  # the rate of job ends with `spread`
_AT_LEAST = 10.0  # seconds that a job runs at least, if it is created in time
_STARTING = 0.15  # seconds for each task to create its job, with 500 at once on two cores
_WAYS = ("tasks", "prefect", "watcher", "describing")
_ENDS = ("spread", "together")

_ROW = (
    "  {way:<10} {megabytes:6.0f} {cpu:6.1f}  {median:6.1f} {p95:7.1f} {max:8.1f}"
    "  {lists:10.2f} {describes:10.2f} {logs:9.1f} {requests:11.0f}"
)

Figures = dict[str, Any]


def main() -> None:
    """Run all benchmarks and print their results; with `--measure`, run one of their processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--few", type=int, default=20)
    parser.add_argument("--only", choices=_WAYS, action="append")
    parser.add_argument("--end", choices=_ENDS, action="append")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.measure:
        print(json.dumps(_measure(chosen.only[0], chosen.end[0], chosen.jobs)))
        return
    with _own_homes():
        for count in (chosen.few, chosen.jobs):
            for end in chosen.end or _ENDS:
                _compare(count, end, chosen.only or _WAYS)


@contextmanager
def _own_homes() -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        del os.environ[name]
    with tempfile.TemporaryDirectory() as scratch:
        os.environ |= {
            "PREFECT_HOME": str(Path(scratch) / "prefect"),
            "PREFECT_PROFILES_PATH": str(Path(scratch) / "profiles.toml"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_LOGGING_LEVEL": "ERROR",
            "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
            "LOCAL_SAGEMAKER_HOME": str(Path(scratch) / "sagemaker"),
        }
        try:
            _local_sagemaker("up")
            yield
        finally:
            _local_sagemaker("down")


def _local_sagemaker(*arguments: str) -> str:
    command = [sys.executable, "-m", "local_sagemaker", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _compare(count: int, end: str, ways: Sequence[str]) -> None:
    """Print a row for each way of waiting, and the ratios of the other ways to `describing`."""
    print(f"\n{count} jobs that end {end if end == 'together' else 'one after the other'}")
    print("               MB  CPU s   job end to wait end, s   listings  describes     logs   requests")
    print("                          median     p95      max    a second   a second  a second      in all")
    rows = {way: _measured(way, end, count) for way in ways}
    for way, row in rows.items():
        print(_ROW.format(way=way, **row))
    base = rows.get("describing")
    for way, row in rows.items():
        if base and row is not base:
            shares = {name: row[name] / base[name] for name in ("megabytes", "cpu", "median", "max", "asked")}
            print(f"  {way} / describing:", ", ".join(f"{name} {share:.2f}" for name, share in shares.items()))
    for way, row in rows.items():
        print(f"  {way}: {row['seconds']:.0f} s in all, the jobs ended within {row['ended within']:.1f} s")
        print("   ", ", ".join(f"{name} {number}" for name, number in row["operations"].items()))


def _measured(way: str, end: str, count: int) -> Figures:
    command = [sys.executable, __file__, "--measure", "--only", way, "--end", end, "--jobs", str(count)]
    # Drop stderr: a temporary Prefect server logs errors when it is stopped. Errors of the benchmark set the exit code.
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    return cast("Figures", json.loads(done.stdout.splitlines()[-1]))


# -- one process -------------------------------------------------------------------------------------------------------


def _measure(way: str, end: str, count: int) -> Figures:
    """Make the jobs, wait for all of them, and return what it cost."""
    wait: Callable[[Callable[[], list[float]]], list[tuple[float, float]]]
    wait = {"tasks": _tasks, "prefect": _prefect, "watcher": _watcher, "describing": _describing}[way]
    longest = _AT_LEAST + count * (_STARTING if way in {"tasks", "prefect"} else 0.02)
    begun = 0.0

    def moments() -> list[float]:
        nonlocal begun
        begun = time.time()
        return [begun + longest + (number / _JOBS_A_SECOND if end == "spread" else 0.0) for number in range(count)]

    before = _requests()
    seen = wait(moments)
    seconds = time.time() - begun
    spent = {name: number - before.get(name, 0) for name, number in _requests().items()}
    delays = sorted(known - ended for known, ended in seen)
    used = resource.getrusage(resource.RUSAGE_SELF)
    lists, describes = _sum(spent, "sagemaker:List"), _sum(spent, "sagemaker:Describe")
    ends = [ended for _, ended in seen]
    return {
        "megabytes": used.ru_maxrss / 1024,
        "cpu": used.ru_utime + used.ru_stime,
        "median": statistics.median(delays),
        "p95": delays[int(len(delays) * 0.95)],
        "max": delays[-1],
        "lists": lists / seconds,
        "describes": describes / seconds,
        "asked": lists + describes,
        "logs": _sum(spent, "logs:") / seconds,
        "requests": sum(spent.values()),
        "seconds": seconds,
        "ended within": max(ends) - min(ends),
        "operations": {name: number for name, number in spent.items() if number},
    }


def _sum(spent: dict[str, int], beginning: str) -> int:
    return sum(number for name, number in spent.items() if name.startswith(beginning))


def _requests() -> dict[str, int]:
    requests: dict[str, int] = json.loads(_local_sagemaker("status", "--json"))["requests"]
    return requests


def _tasks(moments: Callable[[], list[float]]) -> list[tuple[float, float]]:
    """Wait as a flow does, with one submitted task for each job; return when each wait and each job ended."""
    from prefect import flow

    from tasks_lib import sagemaker_tasks

    sm = sagemaker_tasks("local", image="local/simulated", spot=False, state="none")
    known: dict[int, float] = {}

    def note(number: int, _: object) -> None:
        known[number] = time.time()

    @flow
    def waiting() -> list[tuple[float, float]]:
        futures = []
        for number, moment in enumerate(moments()):
            runs = {"SIMULATED_SECONDS": f"{max(1.0, moment - time.time()):.1f}"}
            future = sm.train.submit(f"t{number}-{os.getpid()}", environment=runs)
            future.add_done_callback(partial(note, number))
            futures.append(future)
        results = [future.result() for future in futures]
        ends = [(each.created or 0.0) + (each.job_seconds or 0.0) for each in results]
        return [(known[number], ended) for number, ended in enumerate(ends)]

    return waiting()


def _prefect(moments: Callable[[], list[float]]) -> list[tuple[float, float]]:
    """Wait in Prefect tasks that do not use SageMaker."""
    from prefect import flow, task

    known: dict[int, float] = {}

    def note(number: int, _: object) -> None:
        known[number] = time.time()

    @task
    def until(moment: float) -> None:
        while moment > time.time():
            threading.Event().wait(min(0.25, max(0.0, moment - time.time())))

    @flow
    def waiting() -> list[tuple[float, float]]:
        wanted = moments()
        futures = [until.submit(moment) for moment in wanted]
        for number, future in enumerate(futures):
            future.add_done_callback(partial(note, number))
        for future in futures:
            future.result()
        return [(known[number], moment) for number, moment in enumerate(wanted)]

    return waiting()


def _watcher(moments: Callable[[], list[float]]) -> list[tuple[float, float]]:
    """Wait with the watcher, as a task does, but without the task."""
    from blocks import SageMakerProject
    from tasks_lib.aws.jobs import Jobs
    from tasks_lib.aws.watch import watcher_of
    from tasks_lib.jobs.job import Job
    from tasks_lib.jobs.kinds import TRAINING

    project = SageMakerProject.local()
    project.client("s3")  # makes the bucket
    jobs, watcher = Jobs(project), watcher_of(project)

    def wait(name: str, moment: float) -> Job:
        with watcher.watching(jobs.create(TRAINING, _request(name, moment))) as watched:
            while not watched.wait(0.25):
                pass
            return watched.job

    return _in_threads(lambda name, moment: wait(name, moment).ended or 0.0, moments)


def _describing(moments: Callable[[], list[float]]) -> list[tuple[float, float]]:
    """Wait as the SageMaker SDK does, with a thread for each job."""
    from blocks import SageMakerProject

    project = SageMakerProject.local()
    project.client("s3")  # makes the bucket
    api = project.client("sagemaker")

    def wait(name: str, moment: float) -> float:
        api.create_training_job(**_request(name, moment))
        while True:
            job = api.describe_training_job(TrainingJobName=name)
            if job["TrainingJobStatus"] in {"Completed", "Failed", "Stopped"}:
                ended: float = job["TrainingEndTime"].timestamp()
                return ended
            time.sleep(_EVERY)

    return _in_threads(wait, moments)


def _in_threads(wait: Callable[[str, float], float], moments: Callable[[], list[float]]) -> list[tuple[float, float]]:
    seen: list[tuple[float, float]] = []

    def one(number: int, moment: float) -> None:
        ended = wait(f"w{number}-{os.getpid()}", moment)
        seen.append((time.time(), ended))

    threads = [threading.Thread(target=one, args=each) for each in enumerate(moments())]
    with ExitStack() as stack:
        for thread in threads:
            thread.start()
            stack.callback(thread.join)
    return seen


def _request(name: str, moment: float) -> dict[str, Any]:
    return {
        "TrainingJobName": name,
        "RoleArn": "arn:aws:iam::000000000000:role/benchmark",
        "AlgorithmSpecification": {"TrainingImage": "local/simulated", "TrainingInputMode": "File"},
        "OutputDataConfig": {"S3OutputPath": "s3://local-sagemaker/benchmark"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
        "Environment": {"SIMULATED_SECONDS": f"{max(1.0, moment - time.time()):.1f}"},
    }


if __name__ == "__main__":
    main()
