"""Imports: the values of a job and the command line need neither Prefect nor boto3."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

HEAVY = {"prefect", "prefect_aws", "boto3", "botocore"}
pytestmark = pytest.mark.processes

SHOW = "import json, sys; print(json.dumps([code, sorted(sys.modules)]))"


def modules_after(program):
    """Run a program in a new Python; return its `code` and the modules that it loaded."""
    # A measurement of coverage loads a hundred modules of its own into each new Python.
    variables = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    command = [sys.executable, "-c", f"code = 0\n{program}\n{SHOW}"]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    code, modules = json.loads(done.stdout.splitlines()[-1])
    return code, set(modules)


@pytest.mark.parametrize(
    "module",
    ["blocks", "tasks_lib.errors", "tasks_lib.jobs.naming", "tasks_lib.jobs.kinds", "tasks_lib.jobs.fingerprint"],
)
def test_values_take_neither_prefect_nor_boto3_along(module):
    """Importing these modules loads no heavy package; import-linter reads the code, this test runs it."""
    _, loaded = modules_after(f"import {module}")

    assert module in loaded
    assert not loaded & HEAVY


def test_the_module_of_names_is_light():
    """`tasks_lib.jobs.naming` loads at most 150 modules, including those of Python's start."""
    _, loaded = modules_after("import tasks_lib.jobs.naming")

    assert len(loaded) <= 150


@pytest.mark.parametrize("arguments", ["nonsense", "policy --nope", "quotas --apply now"])
def test_wrong_usage_is_refused_at_once(arguments):
    """`ssm` checks its arguments before it imports Prefect."""
    program = f"from tasks_lib.cli import main\ntry:\n    main({arguments.split()!r})\nexcept SystemExit as end:\n"
    ended, loaded = modules_after(f"{program}    code = end.code")

    assert ended == 2
    assert not loaded & HEAVY


def test_the_block_is_found_where_it_always_was():
    """`from blocks import SageMakerProject` imports the block; an unknown name is an error."""
    _, loaded = modules_after("from blocks import SageMakerProject")

    assert loaded >= {"blocks.project", "prefect"}
    with pytest.raises(subprocess.CalledProcessError):
        modules_after("from blocks import SageMakerProjects")
