"""In a flow run one task name stands for one piece of work."""

import threading
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_lib.errors import DuplicateTask
from tasks_lib.prefect_runtime.run_context import RunContext
from tasks_lib.run import step

URI = "s3://bucket/demo/fit/"


def check_call(flow_run, task_run, uri, work, flow_try=1):
    step.check_call(RunContext(flow_run=flow_run, flow_try=flow_try, task_run=task_run), uri, work)


def work(value=1):
    return {"image": "i", "hyperparameters": {"C": str(value)}}


@pytest.fixture
def flow_run():
    return uuid.uuid4().hex


def test_the_same_work_twice_is_one_job(flow_run):
    """Two calls with the same work are allowed, in any order of its ingredients."""
    check_call(flow_run, "one", URI, work())
    check_call(flow_run, "two", URI, dict(reversed(list(work().items()))))


def test_different_work_under_one_name_is_refused(flow_run):
    """Different work under one name is refused; the error names both calls and the difference."""
    check_call(flow_run, "one", URI, work(1))

    with pytest.raises(DuplicateTask) as caught:
        check_call(flow_run, "two", URI, work(2))

    for words in (URI, "task run one", "task run two", 'hyperparameter "C" changed (1 -> 2)'):
        assert words in caught.value.message
    assert caught.value.fix


def test_a_retry_may_see_new_inputs(flow_run):
    """1. A call is made. 2. Its retry finds other data. 3. The retry's work counts from then on."""
    check_call(flow_run, "one", URI, work(1))
    check_call(flow_run, "one", URI, work(2))
    check_call(flow_run, "two", URI, work(2))

    with pytest.raises(DuplicateTask):
        check_call(flow_run, "three", URI, work(1))


def test_a_flow_run_that_is_tried_again_may_see_new_inputs(flow_run):
    """A retry of the flow run, which has the same id and new task runs, may have other inputs."""
    check_call(flow_run, "one", URI, work(1))
    check_call(flow_run, "two", URI, work(2), flow_try=2)

    with pytest.raises(DuplicateTask):
        check_call(flow_run, "three", URI, work(1), flow_try=2)


def test_other_names_and_other_runs_are_free(flow_run):
    """Other names and other flow runs may have other work."""
    check_call(flow_run, "one", URI, work(1))
    check_call(flow_run, "two", "s3://bucket/demo/fit2/", work(2))
    check_call(uuid.uuid4().hex, "three", URI, work(3))


@given(st.lists(st.integers(), max_size=5))
def test_outside_a_flow_everything_goes(values):
    """Outside a flow run, as in a notebook, any call is allowed."""
    for value in values:
        check_call(None, uuid.uuid4().hex, URI, work(value))


def test_of_many_threads_one_work_wins(flow_run):
    """Of calls in many threads, as from `.map`, exactly those with the first call's work are allowed."""
    barrier, passed, refused = threading.Barrier(8), [], []

    def call(number):
        barrier.wait()
        try:
            check_call(flow_run, str(number), URI, work(number % 2))
            passed.append(number % 2)
        except DuplicateTask:
            refused.append(number % 2)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (len(passed), len(refused)) == (4, 4)
    assert len(set(passed)) == len(set(refused)) == 1
