"""What we cost, as ratios in one run: a skip, a trivial job, and an import.

    python benchmarks/overhead.py [--tasks 50]

Prints, for this machine and this run: a flow of cached tasks against one of plain Prefect's cached no-op tasks, with
the requests that a skip sends; the time from call to result of a job that does nothing; time and memory of the imports.
Everything runs under a temporary Prefect home and a temporary local SageMaker.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_ROUNDS = 5


def main() -> None:
    """Run all benchmarks and print their results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=50)
    count = parser.parse_args().tasks
    with tempfile.TemporaryDirectory() as scratch:
        _own_homes(Path(scratch))
        try:
            _imports()
            _skips(count)
            _trivial_jobs()
        finally:
            subprocess.run([sys.executable, "-m", "local_sagemaker", "down"], check=True, capture_output=True)


def _own_homes(scratch: Path) -> None:
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        del os.environ[name]
    os.environ |= {
        "PREFECT_HOME": str(scratch / "prefect"),
        "PREFECT_PROFILES_PATH": str(scratch / "profiles.toml"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_LEVEL": "ERROR",
        "LOCAL_SAGEMAKER_HOME": str(scratch / "sagemaker"),
    }


def _imports() -> None:
    """Print time and peak memory of the imports of Prefect and of this project, each in a process of its own."""
    program = (
        "import time,resource;t=time.perf_counter();import {0};"
        "print(time.perf_counter()-t,resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024)"
    )
    print("import                     seconds      MB")
    for module in ("prefect", "prefect_aws", "tasks_lib.tasks", "worker_toolkit"):
        rows = []
        for _ in range(_ROUNDS):
            done = subprocess.run(
                [sys.executable, "-c", program.format(module)], capture_output=True, text=True, check=True
            )
            rows.append([float(figure) for figure in done.stdout.split()])
        seconds, memory = (statistics.median(column) for column in zip(*rows, strict=True))
        print(f"  {module:<24} {seconds:7.2f} {memory:7.0f}")


def _skips(count: int) -> None:
    """Compare a flow of cached tasks of this project with one of plain Prefect tasks, alternating."""
    from prefect import flow, task
    from prefect.cache_policies import INPUTS

    from tasks_lib import sagemaker_tasks

    sm = sagemaker_tasks("local")

    @task(cache_policy=INPUTS, persist_result=True)
    def nothing(number: int) -> int:
        return number

    # Measure inside the flows: the start and end of a flow, which are the same for both, would hide the cost of a task.
    @flow
    def plain() -> float:
        began = time.perf_counter()
        nothing.map(range(count)).result()
        return time.perf_counter() - began

    @flow
    def ours() -> float:
        began = time.perf_counter()
        sm.process.map([f"skip-{number}" for number in range(count)], command="true", state="none").result()
        return time.perf_counter() - began

    plain()
    print(f"\n{count} jobs made in {ours():.1f} s, so that there is something to skip")
    before = _requests()
    rows = [(ours(), plain()) for _ in range(_ROUNDS)]
    after = _requests()
    mine, theirs = (statistics.median(column) for column in zip(*rows, strict=True))
    print(f"cached flow of {count}: ours {mine:.3f} s, plain Prefect {theirs:.3f} s, ratio {mine / theirs:.2f}")
    print(f"  a task of ours costs {(mine - theirs) / count * 1000:.1f} ms more (aim: at most 20)")
    spent = {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)}
    print("  requests a skip:", {name: round(number / count / _ROUNDS, 2) for name, number in sorted(spent.items())})


def _requests() -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, "-m", "local_sagemaker", "status", "--json"], capture_output=True, text=True, check=True
    )
    requests: dict[str, int] = json.loads(done.stdout)["requests"]
    return requests


def _trivial_jobs() -> None:
    """Print the time from call to result of a job that does nothing, outside a flow."""
    from tasks_lib import sagemaker_tasks

    sm = sagemaker_tasks("local", state="none")
    seconds = [sm.process(f"trivial-{number}", command="true").seconds for number in range(_ROUNDS)]
    print(f"\na trivial job, call to result: {statistics.median(seconds):.2f} s median of {_ROUNDS} (aim: under 1.5)")


if __name__ == "__main__":
    main()
