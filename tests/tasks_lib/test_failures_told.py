"""How often an error is shown: the log has it once in full, and everything later has it in one line."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect_double import played_prefect

from tasks_lib import best, output_of
from tasks_lib.errors import InvalidTask, JobFailed, MissingPath, PrefectSageMakerError
from tasks_lib.prefect_runtime.failure_log import ENGINE_LOGGERS, LogErrorOnce
from tasks_lib.prefect_runtime.prefect_task import JobTask

LONGEST_MESSAGE = 200


@pytest.fixture
def api():
    """Prefect's API, as a double in this process."""
    with played_prefect() as played:
        yield played


def body(name, *, error=None, inputs=None):
    """Act in place of a job: raise the error, or return the name."""
    if error:
        raise error
    return name


def step():
    return JobTask.of("step", body)


def a_failure(**more):
    """Return the error of a failed job with names of the maximum length."""
    job, task_name = f"{'j' * 61}-1", more.pop("task", "fit")
    ending = more.pop("ending", "failed on algo-1 with exit code 1: KeyError: 'area_qm'")
    message = f"The training job {job} of task {task_name!r} {ending}."
    return JobFailed(message, task=task_name, job=job, ending=ending, fix="fix it.", **more)


# -- the first cause -----------------------------------------------------------------------------------------------


def chains():
    """Return flows whose last step cannot run because the first one failed."""
    error = a_failure()

    def one_by_one():
        first = step().submit("first", error=error)
        second = step().submit("second", inputs={"x": output_of(first)})
        return step().submit("third", inputs={"x": [second]}).result()

    def mapped():
        firsts = step().map(["good", "bad"], error=[None, error])
        return [each.result() for each in step().map(["a", "b"], inputs=[{"x": output_of(each)} for each in firsts])]

    def called():
        return step()("second", inputs={"x": output_of(step().submit("first", error=error))})

    def waiting():
        return step().submit("second", wait_for=[step().submit("first", error=error)]).result()

    def chosen():
        first = step().submit("first", error=error)
        return best([step().submit("second", inputs={"x": first})], maximize="auc")

    return [pytest.param(each, error, id=each.__name__) for each in (one_by_one, mapped, called, waiting, chosen)]


@pytest.mark.parametrize(("chain", "error"), chains())
def test_a_later_step_raises_the_first_error(api, chain, error):
    """The result of a step that did not run raises the error of the step that failed."""
    with pytest.raises(JobFailed) as raised:
        flow(chain, persist_result=False)()

    assert raised.value is error


def test_of_two_failures_it_is_the_own_one(api):
    """A step raises the error of the step that it waited for, not that of another failed step."""
    errors = [a_failure(task=name) for name in ("one", "two")]

    @flow(persist_result=False)
    def both():
        firsts = step().map(["one", "two"], error=errors)
        seconds = step().map(["a", "b"], inputs=[{"x": output_of(first)} for first in firsts])
        return [each.result(raise_on_failure=False) is error for each, error in zip(seconds, errors, strict=True)]

    assert both() == [True, True]


def test_an_exception_of_another_task_is_raised_as_it_is(api):
    """The exception of another Prefect task, on which a step depends, is raised unchanged."""

    @task(cache_policy=NO_CACHE, persist_result=False)
    def fails():
        raise ZeroDivisionError

    @flow(persist_result=False)
    def chain():
        return step().submit("second", inputs={"x": fails.submit()}).result()

    with pytest.raises(ZeroDivisionError):
        chain()


def test_steps_that_went_well_give_their_results(api):
    """Successful steps return their results: futures, mapped futures and a direct call."""

    @flow(persist_result=False)
    def chain():
        first = step().submit("first")
        second = step().map(["second", "third"], inputs=[{"x": first}, {"x": first}])
        return [first.result(), *second.result(), step()("fourth", inputs={"x": first})]

    assert chain() == ["first", "second", "third", "fourth"]


# -- one full report -----------------------------------------------------------------------------------------------


@pytest.fixture
def said():
    """All records that the engine logs during a test, after the filter."""
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    loggers = [logging.getLogger(name) for name in ENGINE_LOGGERS]
    for logger in loggers:
        logger.addHandler(handler)
    yield records
    for logger in loggers:
        logger.removeHandler(handler)


def fails(error):
    """Run a flow whose step fails; return the final state."""

    def failing():
        return step()("fit", error=error)

    return flow(failing, persist_result=False)(return_state=True)


def test_the_log_has_an_error_once_and_in_full(api, said):
    """One record has the cause and the fix, and no record has a traceback.

    The job's last lines, which were shown before, are left out.
    """
    fails(a_failure(last_lines=["algo-1 | a line of the job"]))
    errors = [record for record in said if "To resolve this" in record.getMessage()]

    assert [record.exc_info for record in said if record.exc_info] == []
    assert [record.name for record in errors] == ["prefect.task_runs"]
    assert errors[0].getMessage().startswith("JobFailed: The training job ")
    assert not [record for record in said if "a line of the job" in record.getMessage()]


def test_an_exception_of_the_users_own_keeps_its_tracebacks(api, said):
    """An exception of the user keeps its traceback, even if an error of this package is its cause."""

    def failing():
        try:
            step()("fit", error=a_failure())
        except JobFailed as error:
            raise ValueError("mine") from error

    flow(failing, persist_result=False)(return_state=True)

    assert [record.exc_info[0] for record in said if record.exc_info] == [ValueError]


def test_percent_signs_are_logged_as_they_are(api, said):
    """Percent signs in an error are logged literally: the text is not used as a format string."""
    fails(InvalidTask("100 % of %s", fix="%d."))

    assert "InvalidTask: 100 % of %s\nTo resolve this: %d." in [record.getMessage() for record in said]


def test_records_without_an_exception_pass():
    """The filter leaves records without an exception unchanged."""
    record = logging.LogRecord("prefect.task_runs", logging.ERROR, "file", 1, "%s", ("text",), None)

    assert LogErrorOnce().filter(record)
    assert record.getMessage() == "text"


LONG = "x" * 300


@pytest.mark.parametrize(
    "error",
    [
        a_failure(),
        a_failure(task="t" * 128),
        a_failure(task="t" * 128, ending=f"failed on algo-1 with exit code 1: ValueError: {LONG}"),
        MissingPath(f"The entry point /{LONG} does not exist.", fix="give one."),
        InvalidTask("First line.\n  - second line\n\n  - third line", fix="fix it."),
    ],
    ids=["usual", "long task", "long cause", "long path", "several lines"],
)
def test_messages_of_states_are_one_short_line(api, error):
    """The state message of a task or flow is one line of at most 200 characters, with the cause of a failed job."""
    messages = [fails(error).message, step()("fit", error=error, return_state=True).message]

    for message in messages:
        assert len(message) <= LONGEST_MESSAGE
        assert "\n" not in message
        assert type(error).__name__ in message
    if isinstance(error, JobFailed):
        assert all("failed on algo-1 with exit code 1: " in message for message in messages)


def test_format_is_the_summary_and_str_the_whole():
    """The format of an error is its message on one line; `str` also has the fix."""
    error = InvalidTask("First.\nSecond.", fix="fix it.")

    assert f"{error}" == "First. Second."
    assert f"{error:>16}" == "  First. Second."
    assert str(error) == "First.\nSecond.\nTo resolve this: fix it."


# -- the end of a program ------------------------------------------------------------------------------------------

PROGRAM = """
import concurrent.futures
from tasks_lib import sagemaker_tasks
from tasks_lib.errors import InvalidTask, PrefectSageMakerError
def work():
    raise {error}
def below():
    return concurrent.futures.ThreadPoolExecutor(1).submit(work).result()
below()
"""


def ended(error):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(error=error)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    return done.stderr.splitlines()


@pytest.mark.processes
def test_an_error_that_ends_a_program_is_shown_with_the_users_frames():
    """The traceback of an error that ends a program leaves out the standard library, Prefect and this package.

    An error that was not reported before is shown in full.
    """
    lines = ended("InvalidTask('It broke.', fix='fix it.')")

    assert [line.rpartition("in ")[2] for line in lines if line.startswith("  File")] == ["<module>", "below", "work"]
    assert lines[-2:] == ["tasks_lib.errors.InvalidTask: It broke.", "To resolve this: fix it."]


@pytest.mark.processes
def test_another_exception_that_ends_a_program_is_shown_as_ever():
    """The previous hook shows any other exception, with all frames."""
    lines = ended("ValueError('mine')")

    assert len([line for line in lines if line.startswith("  File")]) > 3
    assert lines[-1] == "ValueError: mine"


@pytest.mark.parametrize("told", [False, True])
def test_what_a_notebook_shows(told):
    """IPython shows the last line of an error that a log has already in full, and else its full text."""
    with pytest.raises(PrefectSageMakerError) as raised:
        raise InvalidTask("It broke.", fix="fix it.")
    raised.value.told = told
    lines = raised.value._render_traceback_()

    assert lines[0] == "Traceback (most recent call last):"
    end = ["tasks_lib.errors.InvalidTask: It broke.", "To resolve this: fix it."]
    assert lines[-1] == end[0 if told else 1]
