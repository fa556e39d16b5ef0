"""The reason of a failed job: the cause comes first, within the 1,024 characters that SageMaker keeps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker_toolkit.failure import LIMIT, explain
from worker_toolkit.process import Ended


def test_the_exception_and_its_traceback(container):
    """If a script raises, the reason has the exception in its first line and the traceback below."""
    ended = container.run_script("def load():\n    raise ValueError('no rows in train.csv')\nload()\n")
    lines = container.reason.read_text().splitlines()

    assert ended.returncode == 1
    assert lines[0] == "fit.py on algo-1 of 2 ended with exit code 1: ValueError: no rows in train.csv"
    assert lines[1] == "Traceback (most recent call last):"
    assert lines[-1] == "ValueError: no rows in train.csv"
    assert "Traceback" in ended.stdout


def test_the_users_own_reason_stays(container):
    """A reason that the user's code wrote is not overwritten."""
    container.run_script(
        "import os, sys\nfrom pathlib import Path\n"
        f"Path({str(container.reason)!r}).write_text('bad learning rate')\nsys.exit(1)\n"
    )

    assert container.reason.read_text() == "bad learning rate"


def test_success_leaves_no_reason(container):
    """A job that succeeds leaves no reason, even if it wrote to standard error."""
    container.run_script("import sys; print('a warning', file=sys.stderr)")

    assert not container.reason.exists()


def test_a_command_that_fails_shows_its_last_lines_and_not_itself(container):
    """Without a traceback the last lines of standard error are the reason.

    The command, which may hold a secret, is not shown.
    """
    container.run("--command", "echo 'disk is full' >&2; exit 28  # s3cret")

    said = container.reason.read_text().splitlines()
    assert said == ["the shell command on algo-1 of 2 ended with exit code 28: disk is full"]


def test_a_silent_end_has_a_reason(container):
    """A program that fails without output still has a reason."""
    container.run("--command", "exit 9")

    assert container.reason.read_text().splitlines() == ["the shell command on algo-1 of 2 ended with exit code 9"]


def test_the_reasons_of_two_hosts_do_not_run_into_each_other(processing):
    """The reason of a processing job ends with a newline, because SageMaker concatenates the reasons of its hosts."""
    processing.run("--command", "echo 'disk is full' >&2; exit 28")

    assert processing.reason.read_text().endswith("28: disk is full\n")


def test_a_kill_is_reported_with_its_usual_cause(training):
    """The reason for SIGKILL names the usual cause: the kernel ran out of memory."""
    training.run_script("import os; os.kill(os.getpid(), 9)")

    assert training.reason.read_text() == "fit.py on algo-1 of 2 was ended by SIGKILL (often: out of memory)"


def test_a_long_traceback_keeps_cause_and_end(training):
    """Of a deep traceback with a long message, the start of the message and the last frames are kept."""
    layers = "".join(f"def layer_{n}():\n    layer_{n + 1}()\n" for n in range(30))
    training.run_script(
        f"{layers}def layer_30():\n    raise ValueError('nan in ' + 'ä' * 600 + ' of block 7')\nlayer_0()\n"
    )
    text = training.reason.read_text()

    assert text.startswith("fit.py on algo-1 of 2 ended with exit code 1: ValueError: nan in ää")
    assert "ä…\n…" in text
    assert text.endswith("ää of block 7")
    assert LIMIT - 10 <= len(text.encode()) <= LIMIT


@given(st.integers(-300, 300), st.text(), st.text(min_size=400))
def test_it_is_never_longer_than_sagemaker_keeps(code, what, errors):
    """The reason for any output fits in SageMaker's limit."""
    assert len(explain(what[:50], Ended(code, errors)).encode("utf-8", "surrogatepass")) <= LIMIT


GROUP = """\
  + Exception Group Traceback (most recent call last):
  |   File "fit.py", line 1, in <module>
  |     raise ExceptionGroup('two of them', [ValueError('a'), TypeError('b')])
  | ExceptionGroup: two of them (2 sub-exceptions)
  +-+---------------- 1 ----------------
    | ValueError: a
    +---------------- 2 ----------------
    | TypeError: b
    +------------------------------------
"""
NESTED_GROUP = """\
  + Exception Group Traceback (most recent call last):
  |   File "fit.py", line 9, in main
  | ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)
  +-+---------------- 1 ----------------
    | Traceback (most recent call last):
    |   File "fit.py", line 5, in load
    |     raise ValueError("no rows")
    | ValueError: no rows
    +------------------------------------
"""
"""Exception groups as printed by Python 3.11 and newer: of exceptions that were never raised, and of a task group."""


@pytest.mark.parametrize(
    ("errors", "cause"),
    [
        (
            "[rank0]: Traceback (most recent call last):\n[rank0]:   File x\n[rank0]: RuntimeError: nan\n",
            "RuntimeError: nan",
        ),
        (
            (
                "Traceback (most recent call last):\n  File a\nKeyError: 'a'\n\nDuring handling of the above "
                "exception, another exception occurred:\n\nTraceback (most recent call last):\n  File b\nTypeError: b\n"
            ),
            "TypeError: b",
        ),
        ("Traceback (most recent call last):\n  File a\nOSError: full\nleaked semaphores\n", "OSError: full"),
        ("Traceback (most recent call last):\n  File a\n__main__.Diverged: nan\nleaked\n", "__main__.Diverged: nan"),
        (
            (
                "Traceback (most recent call last):\n  File a\nnbclient.CellExecutionError: An error\n----\n"
                "\x1b[31mValueError\x1b[39m  Traceback (most recent call last)\n"
                "\x1b[31mValueError\x1b[39m: in a cell\n\n"
            ),
            "ValueError: in a cell",
        ),
        (GROUP, "ExceptionGroup: two of them (2 sub-exceptions)"),
        (NESTED_GROUP, "ValueError: no rows"),
        ("10%|#  |\r50%|## |\r100%|###|\ncould not save\n\n", "could not save"),
        ("10%|#  |\r100%|###| out of disk\r\n", "100%|###| out of disk"),
    ],
)
def test_the_cause_is_found(errors, cause):
    """The last exception is the cause, without prefixes and colours, even if other output follows it.

    If there is no exception, the last line is the cause.
    """
    assert explain("fit.py", Ended(1, errors)).splitlines()[0] == f"fit.py ended with exit code 1: {cause}"


def test_an_unforeseen_error_is_reported_too(training):
    """An error in the bootstrap itself is a reason with the host and the cause: here, a file blocks a directory."""
    training.at("/opt/ml").mkdir(parents=True, exist_ok=True)
    training.at("/opt/ml/model").write_text("in the way")
    ended = training.run("--command", "true")

    assert ended.returncode == 1
    cause = "The job could not be run: FileExistsError(17, 'File exists')"
    assert training.reason.read_text().startswith(
        f"the bootstrap on algo-1 of 2 ended with exit code 1: {cause}\nTrace"
    )


def test_a_reason_that_cannot_be_left_does_not_hide_the_failure(training):
    """If SageMaker's file cannot be written, the exit code is still that of the program."""
    training.reason.mkdir(parents=True)
    ended = training.run_script("raise SystemExit(5)")

    assert ended.returncode == 5
    assert "the reason could not be left" in ended.stdout
