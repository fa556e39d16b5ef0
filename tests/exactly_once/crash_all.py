"""Kill flows at all their crash points, and report the results: `make crash-all`.

    python tests/exactly_once/crash_all.py [--quick] [--benches N] [--json FILE] [--markdown FILE] [SCENARIO …]

Without arguments it takes all scenarios of `crash_scenarios.py`. It exits with 1 if something was wrong, or if a point
was not reached. Points at calls that depend on the clock need not be reached.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent)]

from own_prefect import served  # noqa: E402 - before any import of Prefect

from conftest import Backend  # noqa: E402  # isort: skip - of tests/
from crash_harness import Harness, Outcome, told  # noqa: E402
from crash_scenarios import SCENARIOS  # noqa: E402
from own_commit import own_commit  # noqa: E402


@dataclass(frozen=True)
class Row:
    """The results of one scenario."""

    scenario: str
    tasks: int
    calls: int
    points: int
    wrong: int
    unreached: int
    unreached_polls: int
    seconds: float

    @classmethod
    def of(cls, name: str, calls: int, outcomes: list[Outcome], seconds: float) -> Row:
        missed = [outcome for outcome in outcomes if not outcome.reached]
        polls = sum(outcome.point.polls for outcome in missed)
        return cls(
            scenario=name,
            tasks=len(SCENARIOS[name].tasks),
            calls=calls,
            points=len(outcomes),
            wrong=sum(bool(outcome.wrong) for outcome in outcomes),
            unreached=len(missed) - polls,
            unreached_polls=polls,
            seconds=round(seconds, 1),
        )


def main() -> int:
    """Run the command line."""
    wanted = _arguments()
    rows, lines = [], []
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crash-all-")))
        backends = [Backend(directory / f"home-{number}") for number in range(wanted.benches)]
        for backend in backends:
            stack.callback(backend.down)
            backend.up()
        api = stack.enter_context(served())
        harness = stack.enter_context(Harness(backends, api, directory))
        for name in wanted.scenarios or SCENARIOS:
            row, found = _crash(harness, name, quick=wanted.quick)
            rows.append(row)
            lines += found
        _keep_logs(directory, bool(lines))
    _write(wanted, rows, lines)
    return 1 if any(row.wrong or row.unreached for row in rows) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Kill flows before and after each of their AWS calls.")
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--benches", type=int, default=2 + (os.cpu_count() or 1), help="how many at a time")
    parser.add_argument("--json", type=Path, help="write what came of it there")
    parser.add_argument("--markdown", type=Path, help="the same as a table")
    parser.add_argument("--quick", action="store_true", help="only behind the calls that change something")
    wanted = parser.parse_args()
    if unknown := set(wanted.scenarios) - SCENARIOS.keys():
        parser.error(f"there is no scenario {', '.join(sorted(unknown))}: take some of {', '.join(SCENARIOS)}")
    return wanted


def _crash(harness: Harness, name: str, *, quick: bool) -> tuple[Row, list[str]]:
    began, done = time.monotonic(), 0

    def tell(outcome: Outcome) -> None:
        nonlocal done
        done += 1
        sign = "x" if outcome.wrong else "." if outcome.reached else "-"
        sys.stderr.write(sign if done % 50 else f"{sign} {done}\n")
        sys.stderr.flush()

    sys.stderr.write(f"{name}: ")
    trace, outcomes = harness.crash_everywhere(
        SCENARIOS[name],
        tell,
        thrice=True,
        choose=lambda points: [point for point in points if point.leaves_another_world or not quick],
    )
    row = Row.of(name, len(trace.calls) + sum(trace.logs.values()), outcomes, time.monotonic() - began)
    sys.stderr.write(f"\n{name}: {row.points} points, {row.wrong} wrong, {row.unreached} not reached\n")
    return row, [line for outcome in outcomes for line in told(outcome)]


def _keep_logs(directory: Path, wanted: bool) -> None:
    """Keep the logs of the flows, if there is something to look into."""
    for log in directory.glob("b*/flows/log") if wanted else ():
        target = Path(tempfile.gettempdir()) / f"{directory.name}-{log.parts[-3]}.log"
        target.write_bytes(log.read_bytes())
        sys.stderr.write(f"what the flows said is in {target}\n")


def _write(wanted: argparse.Namespace, rows: list[Row], lines: list[str]) -> None:
    result = {"commit": own_commit(), "rows": [vars(row) for row in rows], "wrong": lines}
    table = _table(result)
    if wanted.json:
        wanted.json.write_text(json.dumps(result, indent=1) + "\n")
    if wanted.markdown:
        wanted.markdown.write_text(table)
    sys.stdout.write(table)


def _table(result: dict[str, Any]) -> str:
    head = "| scenario | tasks | AWS calls | crash points | wrong | not reached | not reached, polls | seconds |"
    rows = [f"| {' | '.join(str(value) for value in row.values())} |" for row in result["rows"]]
    points, wrong = (sum(row[name] for row in result["rows"]) for name in ("points", "wrong"))
    said = f"Commit {result['commit']}: {points} crash points, {wrong} wrong."
    return "\n".join([said, "", head, "| --- |" + " ---: |" * 7, *rows, "", *(f"- {line}" for line in result["wrong"])])


if __name__ == "__main__":
    sys.exit(main())
