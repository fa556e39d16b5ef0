"""`make test-matrix`: run a part of the tests on each supported pair of Python and Prefect.

    python tests/run_matrix.py                            all pairs whose Python is on this machine
    python tests/run_matrix.py 3.12/3.8.8 3.13/3.9.1      only these pairs

Each pair has its own virtual environment below `build/matrix`, made by uv from constraints.txt with the pair's Prefect.
`docs/reference/support.md` states the results.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
PLACE = CHECKOUT / "build" / "matrix"
PAIRS = ["3.10/3.8.8", "3.11/3.8.8", "3.11/3.9.1", "3.12/3.8.8", "3.12/3.9.1", "3.13/3.8.8", "3.13/3.9.1"]
"""Prefect 3.9 needs Python 3.11."""

TESTS = [
    *("tests/tasks_lib", "tests/blocks", "tests/worker_toolkit", "tests/flows"),
    *("tests/local_sagemaker/test_runtime_contract.py", "tests/local_sagemaker/test_runtime_packages.py"),
    *("tests/journeys/test_skipping.py", "tests/journeys/test_function_jobs.py", "tests/journeys/test_plan.py"),
    *("tests/application/test_schedules.py", "tests/application/test_crash.py", "tests/application/test_stop.py"),
]
"""Tests that depend on Python or on Prefect: values, the worker, a job, a skip, a schedule, a crash, a cancel."""


def python_of(version: str) -> str | None:
    """Return the path of a Python on this machine; None if it is missing."""
    program = shutil.which(f"python{version}")
    if program is None:
        return None
    # pyenv has a program for each version; one whose version is not selected (PYENV_VERSION) only prints an error.
    asked = [program, "-c", "import sys; print(sys.executable)"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() or None


def make_environment(python: str, prefect: str, place: Path) -> Path:
    """Make the virtual environment of a pair; return the path of its Python."""
    place.mkdir(parents=True, exist_ok=True)
    pins = (CHECKOUT / "constraints.txt").read_text().splitlines()
    # constraints.txt is made for Prefect 3.9. Prefect 3.8 allows other versions of three packages, which uv chooses.
    loose = ("prefect=", *(("whenever=", "apprise=", "python-slugify=") if prefect.startswith("3.8") else ()))
    kept = [line for line in pins if not line.startswith(loose)]
    (place / "constraints.txt").write_text("\n".join([*kept, f"prefect=={prefect}"]))
    subprocess.run(["uv", "venv", "--quiet", "--clear", "--python", python, str(place / "venv")], check=True)
    inside = place / "venv" / "bin" / "python"
    install = ["uv", "pip", "install", "--quiet", "--python", str(inside), "-c", str(place / "constraints.txt")]
    subprocess.run([*install, "-e", ".[dev]"], cwd=CHECKOUT, check=True)
    return inside


def run_pair(pair: str, jobs: str) -> str:
    """Run the tests of a pair; return a line with the result."""
    version, prefect = pair.split("/")
    python = python_of(version)
    if python is None:
        return "no such Python on this machine"
    place = PLACE / pair.replace("/", "-")
    inside = make_environment(python, prefect, place)
    began = time.monotonic()
    command = [str(inside), "-m", "pytest", "--tier=sample", "-n", jobs, "-q", *TESTS]
    variables = {**os.environ, "PATH": f"{inside.parent}:{os.environ['PATH']}"}
    with (place / "log").open("w") as log:
        subprocess.run([*command], cwd=CHECKOUT, env=variables, stdout=log, stderr=log, check=False)
    said = re.findall(r"^.*\d+ (?:passed|failed|error).*$", (place / "log").read_text(), re.MULTILINE)
    return f"{said[-1] if said else 'no closing line'}, {time.monotonic() - began:.0f} s; {place / 'log'}"


def main(arguments: list[str] | None = None) -> int:
    """Run the pairs; return 1 if a test failed."""
    parser = argparse.ArgumentParser(description="A part of the tests on each Python and each Prefect.")
    parser.add_argument("pairs", nargs="*", default=PAIRS, help=f"PYTHON/PREFECT; default: {' '.join(PAIRS)}")
    parser.add_argument("-n", default="2", help="workers of pytest-xdist; default: 2")
    wanted = parser.parse_args(arguments)
    if shutil.which("uv") is None:
        sys.stderr.write("make test-matrix needs uv: pip install uv\n")
        return 1
    lines = []
    for pair in wanted.pairs:
        lines.append(f"  {pair:<12} {run_pair(pair, wanted.n)}")
        sys.stdout.write(lines[-1] + "\n")
        sys.stdout.flush()
    return 1 if any(re.search(r"\d+ (failed|error)|no closing line", line) for line in lines) else 0


if __name__ == "__main__":
    raise SystemExit(main())
