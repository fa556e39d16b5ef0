"""`make test-all`: run all tests in named parts, and skip each part that has passed on the same content.

    python tests/run_all.py                  all parts that have not passed yet
    python tests/run_all.py journeys docs    only these parts
    python tests/run_all.py --list           the parts, and how each ended last

Each part is a pytest run of its own under coverage, so that a failure or a Ctrl-C costs one part and not an hour. When
all parts have passed, their coverage is combined and compared with the floor.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
PLACE = CHECKOUT / "build" / "test-all"
FLOOR = 80
"""The required coverage of lines and branches, in per cent."""

PARTS = {
    "values": ["tests/tasks_lib", "tests/blocks", "tests/flows", "tests/worker_toolkit"],
    "local_sagemaker": ["tests/local_sagemaker"],
    "journeys": ["tests/journeys"],
    "application": ["tests/application"],
    "crash_points": ["tests/exactly_once/test_crash_points.py"],
    "faults": ["tests/exactly_once/test_every_fault.py", "tests/exactly_once/test_logs_under_faults.py"],
    "mixtures": ["tests/exactly_once/test_fault_mixtures.py"],
    "races": ["tests/exactly_once/test_races.py"],
    "docs": ["tests/docs"],
    "repository": ["tests/repository"],
    "clients": ["tests/clients"],
}


@dataclass(frozen=True)
class Ended:
    """How a part ended.

    Attributes:
        content: What was tested: a hash of the commit and of all uncommitted changes.
        code: The exit code.
        seconds: Wall time.
        line: The last summary line of pytest.
    """

    content: str
    code: int
    seconds: float
    line: str


def content() -> str:
    """Return a hash of the commit, the changes to it, and the untracked files."""
    asked = [["rev-parse", "HEAD"], ["diff", "HEAD"], ["ls-files", "--others", "--exclude-standard"]]
    said = [subprocess.run(["git", *each], cwd=CHECKOUT, capture_output=True, check=True).stdout for each in asked]
    unknown = [(CHECKOUT / name).read_bytes() for name in said[2].decode().splitlines()]
    return hashlib.sha256(b"\0".join([*said, *unknown])).hexdigest()[:16]


def recorded(part: str) -> Ended | None:
    """Return how a part ended last; None if it has not run."""
    file = PLACE / f"{part}.json"
    return Ended(**json.loads(file.read_text())) if file.exists() else None


def run_part(part: str, jobs: str, tested: str) -> Ended:
    """Run a part, print its output, and save how it ended."""
    command = [sys.executable, "-m", "pytest", "--tier=all", "-n", jobs, "--durations=10"]
    coverage = ["--cov", "--cov-report=", f"--junitxml={PLACE / part}.xml"]
    variables = {**os.environ, "COVERAGE_FILE": str(PLACE / f".coverage.{part}")}
    began, line = time.monotonic(), ""
    with subprocess.Popen(
        [*command, *coverage, *PARTS[part]], cwd=CHECKOUT, env=variables, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        for said in process.stdout:
            sys.stdout.write(said)
            sys.stdout.flush()
            line = said.strip() if re.search(r"\d+ (passed|failed|error)", said) else line
    ended = Ended(tested, process.returncode, round(time.monotonic() - began, 1), line.strip("= "))
    (PLACE / f"{part}.json").write_text(json.dumps(asdict(ended)))
    return ended


def hold_the_floor() -> int:
    """Combine the coverage of all parts; return exit code 2 if it is below the floor."""
    coverage = [sys.executable, "-m", "coverage"]
    variables = {**os.environ, "COVERAGE_FILE": str(PLACE / "coverage")}
    files = [str(PLACE / f".coverage.{part}") for part in PARTS]
    subprocess.run([*coverage, "combine", "--keep", *files], cwd=CHECKOUT, env=variables, check=True)
    report = [*coverage, "report", "--skip-covered", f"--fail-under={FLOOR}"]
    return subprocess.run(report, cwd=CHECKOUT, env=variables, check=False).returncode


def table() -> str:
    """Return a table with one line for each part."""
    now, lines = content(), []
    for part in PARTS:
        ended = recorded(part)
        state = "not run" if ended is None or ended.content != now else "failed" if ended.code else "passed"
        lines.append(f"  {part:<16} {state:<8} {f'{ended.seconds:7.0f} s  {ended.line}' if ended else ''}".rstrip())
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run the parts that have not passed yet.

    Return 0 if the requested parts have passed; if all parts have passed, the coverage must also reach the floor.
    """
    parser = argparse.ArgumentParser(description="Everything there is, in named parts that can be resumed.")
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help=f"default: all of {', '.join(PARTS)}")
    parser.add_argument("-n", default="2", help="workers of pytest-xdist; default: 2")
    parser.add_argument("--again", action="store_true", help="run also what has passed on this content")
    parser.add_argument("--list", action="store_true", help="show how the parts ended last, and run none")
    wanted = parser.parse_args(arguments)
    PLACE.mkdir(parents=True, exist_ok=True)
    if not wanted.list:
        for part in wanted.parts or PARTS:
            tested, ended = content(), recorded(part)
            if wanted.again or ended is None or ended.code or ended.content != tested:
                sys.stdout.write(f"\n== {part} ==\n")
                run_part(part, wanted.n, tested)
    sys.stdout.write(f"\n{table()}\n")
    now = content()
    passed = [part for part in PARTS if (ended := recorded(part)) and not ended.code and ended.content == now]
    left = [part for part in wanted.parts or PARTS if part not in passed]
    code = 0 if left or len(passed) < len(PARTS) or wanted.list else hold_the_floor()
    seconds = sum(ended.seconds for part in PARTS if (ended := recorded(part)))
    sys.stdout.write(f"{len(passed)} of {len(PARTS)} parts have passed on this content; together {seconds:.0f} s.\n")
    return 1 if left and not wanted.list else code


if __name__ == "__main__":
    raise SystemExit(main())
