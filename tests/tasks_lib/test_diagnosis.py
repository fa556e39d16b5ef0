"""The error of a failed job: it names the host, the exit code, the log lines and the fix."""

import pytest
from aws_doubles import make_block

from tasks_lib.aws.logs import LogLine
from tasks_lib.errors import JobFailed, JobStopped
from tasks_lib.job_errors import job_error
from tasks_lib.jobs.job import Job
from tasks_lib.jobs.kinds import TRAINING
from worker_toolkit.failure import explain, explain_start
from worker_toolkit.process import Ended

TRACEBACK = 'Traceback (most recent call last):\n  File "fit.py", line 1\nValueError: no such column\n'


def job(status="Failed", **more):
    return Job(TRAINING, "fit-1", "arn:aws:sagemaker:us-east-1:123456789012:training-job/fit-1", status, **more)


def error(the_job, lines=()):
    return job_error(make_block(), "fit", the_job, lines)


@pytest.mark.parametrize("where", ["reason", "message"])
@pytest.mark.parametrize(("code", "host"), [(3, "algo-1"), (1, "algo-2"), (139, "algo-12")])
def test_the_toolkits_own_words_are_understood(where, code, host):
    """Host and exit code, also of a signal, are read from the reason that the bootstrap writes."""
    said = explain(f"fit.py on {host} of 12", Ended(code, TRACEBACK))
    found = error(job(**{where: f"AlgorithmError: {said}"}))

    assert (found.host, found.exit_code) == (host, code)
    assert host in found.message
    assert "ValueError: no such column" in str(found)


@pytest.mark.parametrize("killed", [137, 3, 134])
def test_reasons_of_two_hosts_without_a_separator(killed):
    """A host that was terminated after another host failed is not reported, in any order of the reasons."""
    told, failed = (explain(f"fit.sh on algo-{n} of 2", Ended(code, "")) for n, code in ((1, 143), (2, killed)))

    for said in (f"{told}{failed}", f"{failed}{told}"):
        found = error(job(message=said))
        assert (found.host, found.exit_code) == ("algo-2", killed)


def test_the_host_whose_pip_failed():
    """A host whose pip was terminated after another host's pip failed is not reported as the cause."""
    told = explain_start("algo-1 of 2", 143, "requirements.txt could not be installed")
    failed = explain_start("algo-2 of 2", 1, "requirements.txt could not be installed: No such package.")
    found = error(job(message=f"{told}\n{failed}\n"))

    assert (found.host, found.exit_code) == ("algo-2", 1)
    assert found.ending == "failed on algo-2 with exit code 1: requirements.txt could not be installed: No such package"


def test_all_hosts_were_terminated():
    """If all hosts were terminated, the first one is reported."""
    said = "".join(explain(f"the shell command on algo-{number} of 2", Ended(143, "")) for number in (1, 2))

    assert (error(job(message=said)).host, error(job(message=said)).exit_code) == ("algo-1", 143)


def test_the_lines_of_the_host_that_failed():
    """The last twenty lines of the failed host come first, then five of the other hosts."""
    lines = [LogLine(float(number), f"algo-{number % 2 + 1}", f"line {number}") for number in range(100)]
    reason = explain("fit.py on algo-2 of 2", Ended(1, TRACEBACK))
    found = error(job(reason=reason), lines)

    assert [line.split(" | ")[0] for line in found.last_lines] == ["algo-2"] * 20 + ["algo-1"] * 5
    assert (found.last_lines[19], found.last_lines[-1]) == ("algo-2 | line 99", "algo-1 | line 98")


def test_an_exit_code_in_the_words_of_sagemaker():
    """The exit code is also read from SageMaker's own message, for an image without the bootstrap."""
    found = error(job(reason="AlgorithmError: , exit code: 137"))

    assert (found.exit_code, found.host) == (137, None)
    assert isinstance(found, JobFailed)


def test_without_any_code_none_is_invented():
    """If SageMaker's reason has no exit code, the error has none."""
    found = error(job(reason="InternalServerError: We encountered an internal error."))

    assert found.exit_code is None
    assert "exit code" not in found.message


@pytest.mark.parametrize(("secondary", "words"), [
    ("MaxRuntimeExceeded", "time limit"), ("MaxWaitTimeExceeded", "time limit"), ("Stopped", "was stopped"),
    ("Interrupted", "was stopped"),
])  # fmt: skip
def test_stopped_jobs(secondary, words):
    """A stopped job is an error that names the time limit or the stop, and its fix mentions the state that is left."""
    found = error(job("Stopped", secondary=secondary))

    assert isinstance(found, JobStopped)
    assert words in found.message
    assert "state" in found.fix


def test_every_error_of_a_job_says_all():
    """The error of a job has its task, name, ARN, reason, log lines, console link and fix."""
    found = error(job(reason="AlgorithmError: boom"), [LogLine(1.0, "algo-1", "the last line")])

    assert (found.task, found.job, found.arn) == ("fit", "fit-1", job().arn)
    for words in (
        "fit-1",
        "boom",
        "algo-1 | the last line",
        "https://us-east-1.console.aws.amazon.com",
        "To resolve this",
    ):
        assert words in str(found)
