"""The Makefile's commands, read with `make -n`, which prints them and runs none."""

import os
import re
import subprocess
from pathlib import Path

import check_prose
import pytest
import yaml

ROOT = Path(__file__).parents[2]


def make(*arguments):
    """Return the lines that `make` prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "--no-print-directory", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [line.rstrip() for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("command", "module"), [("quickstart", "flows.quickstart"), ("ui", "flows.ui")], ids=["quickstart", "ui"]
)
def test_a_command_sets_up_and_runs_its_module(command, module):
    """A command installs only what the flow needs; then the module runs in .venv with the user's `ARGS`."""
    installs, runs = make("-n", command, "ARGS=--json")

    assert installs == "python3 bin/setup quickstart"
    assert re.fullmatch(rf"\.venv/bin/python -m {re.escape(module)} --json", runs)


@pytest.mark.parametrize(
    ("command", "tests"), [("test", "-m pytest --tier=sample"), ("test-all", "tests/run_all.py")], ids=["test", "all"]
)
def test_checks_come_before_the_tests(command, tests):
    """The checks, which take seconds, come before the tests, whose closing line is the last line of output."""
    first, *checks, last = make("-n", command)
    programs = {Path(word).name for line in checks for word in line.split()[:2]}

    assert first == "python3 bin/setup dev"
    assert programs >= {"ruff", "mypy", "lint-imports", "deptry", "codespell", "check_prose.py"}
    assert tests in last


def test_the_fast_tests_wait_for_no_check():
    """The fast tests run without the checks, since a developer runs them while typing."""
    installs, runs = make("-n", "test-fast", "JOBS=3")

    assert installs == "python3 bin/setup dev"
    assert re.search(r"-m pytest --tier=fast -n 3\b", runs)


def test_another_python_can_be_named():
    """If `python3` is too old, the user can name another Python."""
    assert make("-n", "setup", "PYTHON=python3.12")[0] == "python3.12 bin/setup dev"


@pytest.mark.parametrize("arguments", [[], ["help"]])
def test_help_lists_every_command(arguments):
    """Plain `make` changes nothing: it lists each command with a line that describes it."""
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    listed = dict(re.findall(r"^  make ([\w-]+) +(\S.*)$", "\n".join(make(*arguments)), re.MULTILINE))

    assert phony[1].split() == list(listed)


def test_ci_runs_what_a_newcomer_types():
    """CI runs the command that a newcomer runs."""
    lines = (ROOT / ".ci" / "run").read_text().splitlines()

    assert lines[-1] == "exec make test </dev/null"
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_pre_commit_runs_the_checks_of_lint():
    """Each hook is a command of the Makefile, and together they are `make lint` after `make fix`."""
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    targets = [hook["entry"].split()[-1] for hook in hooks]

    assert targets == ["fix", "lint-code", "lint-types"]
    assert all(make("-n", target) for target in targets)
    assert {*make("-n", "lint-code"), *make("-n", "lint-types")} <= {*make("-n", "lint")}


@pytest.mark.parametrize(
    ("prose", "expected"),
    [
        ('"""Whoever waits bears it."""\n', ["prose.py:1: 'Whoever'"]),
        ("# To be mended anew.\n", ["prose.py:1: 'mended'", "prose.py:1: 'anew'"]),
        ('raise ValueError("it is no number")\n', ["prose.py:1: 'is no'"]),
        ('"""There is no job: the waiter returns None."""\n', []),
        ("nobody = 1\n", []),
    ],
)
def test_words_to_avoid_are_found(tmp_path, monkeypatch, prose, expected):
    """In docstrings, comments and messages, and not in names."""
    monkeypatch.setattr(check_prose, "ROOT", tmp_path)
    path = tmp_path / "prose.py"
    path.write_text(prose)

    assert [found.partition(";")[0] for found in check_prose.findings(path)] == expected
