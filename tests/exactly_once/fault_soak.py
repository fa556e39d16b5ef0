"""Run flows under many random mixtures of faults, and report the results: `make fault-soak`.

    python tests/exactly_once/fault_soak.py [--mixtures N] [--lanes N] [--seed N] [--json FILE] [--markdown FILE]
    python tests/exactly_once/fault_soak.py --replay '{"shape": "one", "faults": …}'

It exits with 1 if a flow did not end as it must.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent)]
os.environ["PREFECT_LOGGING_LEVEL"] = "CRITICAL"  # otherwise thousands of lines of successful flows

from own_prefect import ISOLATED, served  # noqa: E402 - before any import of Prefect

# ruff: isort: split
import prefect.settings as prefect_settings  # noqa: E402
from conftest import Backend  # noqa: E402 - of tests/
from fault_mixtures import SEED, Lane, Mixture, Outcome, drawn, run_mixtures  # noqa: E402
from own_commit import own_commit  # noqa: E402
from prefect.settings import temporary_settings  # noqa: E402

_WIDTH = 50


def main() -> int:
    """Run the command line."""
    wanted = _arguments()
    some = [Mixture.read(wanted.replay)] if wanted.replay else drawn(wanted.mixtures, wanted.seed)
    outcomes: list[Outcome] = []

    def tell(outcome: Outcome) -> None:
        outcomes.append(outcome)
        sys.stderr.write("x" if outcome.wrong else ".")
        sys.stderr.write(f" {len(outcomes)}\n" if len(outcomes) % _WIDTH == 0 else "")
        sys.stderr.flush()

    with _lanes(min(wanted.lanes, len(some))) as lanes:
        began = time.monotonic()
        run_mixtures(lanes, some, tell)
        seconds = time.monotonic() - began
    sys.stderr.write("\n")
    _write(wanted, _result(wanted, outcomes, seconds))
    return 1 if any(outcome.wrong for outcome in outcomes) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run flows under random mixtures of faults.")
    parser.add_argument("--mixtures", type=int, default=1000, help="how many; default 1,000")
    parser.add_argument("--lanes", type=int, default=1 + (os.cpu_count() or 1), help="how many at a time")
    parser.add_argument("--seed", type=int, default=SEED, help="the same seed draws the same mixtures")
    parser.add_argument("--replay", metavar="MIXTURE", help="run this one alone, as a failure printed it")
    parser.add_argument("--json", type=Path, help="write what came of it there")
    parser.add_argument("--markdown", type=Path, help="the same as a table")
    wanted = parser.parse_args()
    if wanted.mixtures < 1 or wanted.lanes < 1:
        parser.error("there is at least one mixture, and one lane")
    return wanted


@contextmanager
def _lanes(number: int) -> Iterator[list[Lane]]:
    """Yield running local SageMakers, with a Prefect server, for this block."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fault-soak-")))
        backends = [Backend(directory / f"home-{position}") for position in range(number)]
        for backend in backends:
            stack.callback(backend.down)
            backend.up()
        api = stack.enter_context(served())
        quiet = {
            prefect_settings.PREFECT_API_URL: api,
            prefect_settings.PREFECT_LOGGING_TO_API_ENABLED: False,
        }
        stack.enter_context(temporary_settings({**ISOLATED, **quiet}))
        yield [Lane(backend, directory / f"lane-{position}") for position, backend in enumerate(backends)]


def _result(wanted: argparse.Namespace, outcomes: list[Outcome], seconds: float) -> dict[str, Any]:
    fired: Counter[str] = sum((outcome.fired for outcome in outcomes), Counter[str]())
    under: Counter[str] = Counter(kind for outcome in outcomes for kind in +outcome.fired)
    return {
        "commit": own_commit(),
        "seed": wanted.seed,
        "mixtures": len(outcomes),
        "failures": sum(bool(outcome.wrong) for outcome in outcomes),
        "seconds": round(seconds),
        "lanes": wanted.lanes,
        "fired": {kind: [fired[kind], under[kind]] for kind in sorted(under)},
        "wrong": [str(outcome) for outcome in outcomes if outcome.wrong],
    }


def _write(wanted: argparse.Namespace, result: dict[str, Any]) -> None:
    if wanted.json:
        wanted.json.write_text(json.dumps(result, indent=1) + "\n")
    table = _table(result)
    if wanted.markdown:
        wanted.markdown.write_text(table)
    sys.stdout.write(table)


def _table(result: dict[str, Any]) -> str:
    said = (
        f"Commit {result['commit']}, seed {result['seed']}: {result['mixtures']} mixtures, {result['failures']} wrong, "
        f"in {result['seconds']} s on {result['lanes']} local SageMakers."
    )
    rows = [f"| `{kind}` | {fired} | {under} |" for kind, (fired, under) in result["fired"].items()]
    head = ["| fault | happened | in so many mixtures |", "| --- | ---: | ---: |"]
    return "\n".join([said, "", *head, *rows, "", *(f"- {line}" for line in result["wrong"]), ""])


if __name__ == "__main__":
    sys.exit(main())
