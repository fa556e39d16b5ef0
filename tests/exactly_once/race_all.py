"""The races at length: `python tests/exactly_once/race_all.py [--times 10] [--seed 7] [-k NAME]`.

It runs the same tests as `make test-all`, with several times their rounds. The last line of its output is for
`docs/reliability.md`: commit, rounds, seed, time, and whether an invariant was broken.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import time
from pathlib import Path

TESTS = Path(__file__).with_name("test_races.py")
CHECKOUT = TESTS.parents[2]


def main() -> int:
    """Run the races; return pytest's exit code."""
    wanted = _parser().parse_args()
    began = time.monotonic()
    command = [sys.executable, "-m", "pytest", str(TESTS), "-q", "-p", "no:randomly", "--durations=5", "-k", wanted.k]
    variables = {"RACE_ROUNDS": str(wanted.times), "RACE_SEED": str(wanted.seed)}
    done = subprocess.run(command, cwd=CHECKOUT, env={**os.environ, **variables}, check=False)
    sys.stdout.write(
        f"races at {_commit()}: {wanted.times} times the rounds of make test-all, seed {wanted.seed}, "
        f"{time.monotonic() - began:.0f} s: {'all invariants held' if done.returncode == 0 else 'FAILED'}\n"
    )
    return done.returncode


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Run the races at length.")
    parser.add_argument("--times", type=int, default=10, help="how many times the rounds of make test-all; default: 10")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="of the first round")
    parser.add_argument("-k", default="races", help="as pytest's: only races whose name has this")
    return parser


def _commit() -> str:
    said = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=CHECKOUT, capture_output=True, text=True)  # noqa: PLW1510 - outside of a checkout it prints nothing
    return said.stdout.strip() or "no commit"


if __name__ == "__main__":
    raise SystemExit(main())
