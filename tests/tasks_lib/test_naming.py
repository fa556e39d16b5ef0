"""Job names: SageMaker accepts them, and the same work always has the same name."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tasks_lib.errors import InvalidName
from tasks_lib.jobs.naming import check_channel_name, check_task_name, is_job_of, job_name, slug
from worker_toolkit.contract import SOURCE_CHANNEL

ENDS = "abcABC019"
TASK_NAMES = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._\-]{0,126}[A-Za-z0-9])?", fullmatch=True)
URIS = st.from_regex(r"s3://[a-z]{3,9}/[a-z/]{0,20}/", fullmatch=True)
FINGERPRINTS = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
ATTEMPTS = st.integers(min_value=1, max_value=10**6)


@pytest.mark.parametrize("shape", ["TrainingJobName", "ProcessingJobName"])
def test_job_names_fit_the_model_of_aws(sagemaker_model, shape):
    """Every valid task name gives a job name that botocore's pattern and length allow."""
    rule = sagemaker_model.shape_for(shape).metadata

    @given(TASK_NAMES, URIS, FINGERPRINTS, ATTEMPTS)
    def holds(task, uri, fingerprint, attempt):
        name = job_name(check_task_name(task), uri, fingerprint, attempt)

        assert re.fullmatch(rule["pattern"], name)
        assert rule["min"] <= len(name) <= rule["max"]

    holds()


@given(TASK_NAMES, URIS, FINGERPRINTS, ATTEMPTS)
def test_job_names_are_stable(task, uri, fingerprint, attempt):
    """Two processes with the same work compute the same name."""
    assert job_name(task, uri, fingerprint, attempt) == job_name(task, uri, fingerprint, attempt)


def test_a_known_job_name_does_not_change():
    """The name is an idempotency key between versions: another one would run everything again."""
    assert job_name("fit-C1.0", "s3://bucket/demo/fit-C1.0/", "0" * 64, 1) == "fit-C1-0-13bee439c06b0536-1"


@given(TASK_NAMES, st.lists(URIS, min_size=2, max_size=2, unique=True), FINGERPRINTS)
def test_two_places_never_share_a_name(task, uris, fingerprint):
    """The task's URI is part of the name, so that two projects never share one."""
    first, second = (job_name(task, uri, fingerprint, 1) for uri in uris)

    assert first != second


@given(TASK_NAMES, URIS, st.lists(FINGERPRINTS, min_size=2, max_size=2, unique=True))
def test_two_works_never_share_a_name(task, uri, fingerprints):
    """The fingerprint is part of the name."""
    first, second = (job_name(task, uri, fingerprint, 1) for fingerprint in fingerprints)

    assert first != second


@given(TASK_NAMES, URIS, FINGERPRINTS, st.lists(ATTEMPTS, min_size=2, max_size=2, unique=True))
def test_two_attempts_never_share_a_name(task, uri, fingerprint, attempts):
    """The attempt is part of the name, also for a long stem, which is shortened instead."""
    first, second = (job_name(task, uri, fingerprint, attempt) for attempt in attempts)

    assert first != second


@pytest.mark.parametrize(
    "name",
    [
        "",
        "-fit",
        "fit-",
        ".fit",
        "fit.",
        "_fit",
        "fit_",
        "a b",
        "fit/all",
        "fit\n",
        "é",
        "..",
        "a" * 129,
        None,
        7,
        b"fit",
    ],
)
def test_bad_task_names_are_refused(name):
    """An invalid task name is refused, and the error has a fix."""
    with pytest.raises(InvalidName) as caught:
        check_task_name(name)

    assert repr(name) in str(caught.value)
    assert "To resolve this" in str(caught.value)


@given(st.text(max_size=300))
@example("long name " * 20)
@example("a" * 129)
def test_a_suggested_name_is_one_that_is_taken(name):
    """A name that the error suggests is valid."""
    try:
        check_task_name(name)
    except InvalidName as error:
        suggested = re.search(r"for example '(.*)'\.$", error.fix)
        if suggested:
            assert check_task_name(suggested[1]) == suggested[1]


@given(TASK_NAMES)
def test_good_task_names_stay_what_they_are(name):
    """A valid task name is returned unchanged."""
    assert check_task_name(name) == name


def test_channel_names_fit_the_model_of_aws(sagemaker_model):
    """SageMaker accepts every channel name that is accepted here."""
    rule = sagemaker_model.shape_for("ChannelName").metadata

    @given(st.text(alphabet=f"{ENDS}._-/ é", min_size=0, max_size=70))
    def holds(name):
        try:
            check_channel_name(name)
        except InvalidName:
            return

        assert re.fullmatch(rule["pattern"], name)
        assert rule["min"] <= len(name) <= rule["max"]

    holds()


@pytest.mark.parametrize("name", ["", "a b", "a/b", "..", "a" * 65, SOURCE_CHANNEL, None, 3])
def test_bad_channel_names_are_refused(name):
    """An invalid channel name is refused, and so is that of the code's channel."""
    with pytest.raises(InvalidName, match="cannot be a SageMaker channel"):
        check_channel_name(name)


def test_the_name_of_the_state_input_is_reserved():
    """`ssm_state` is refused, because it is the input of a processing job's previous state."""
    with pytest.raises(InvalidName):
        check_channel_name("ssm_state")


@given(TASK_NAMES, URIS, FINGERPRINTS, ATTEMPTS)
def test_a_job_is_recognized_by_its_stem(task, uri, fingerprint, attempt):
    """A job's name is recognized as one of its task."""
    assert is_job_of(job_name(task, uri, fingerprint, attempt), task)


@pytest.mark.parametrize("other", ["fit-all", "fi", "foobar"])
def test_a_job_is_not_taken_for_a_task_with_a_similar_name(other):
    """A job of a task with a similar name is not recognized: the whole stem is compared."""
    assert not is_job_of(job_name(other, "s3://b/p/", "0" * 64, 1), "fit")
    assert not is_job_of(job_name("fit", "s3://b/p/", "0" * 64, 1), other)


@pytest.mark.parametrize(
    "name", ["fit", "fit-1", "fit-0123456789abcdef", "-0123456789abcdef-1", "fit-0123456789ABCDEF-1"]
)
def test_a_foreign_job_name_is_not_recognized(name):
    """A name that `job_name` cannot make is not recognized."""
    assert not is_job_of(name, "fit")


@given(st.text(max_size=80))
def test_a_slug_is_made_of_what_job_names_allow(text):
    """A slug has letters, digits and single dashes, with no dash at its ends."""
    assert re.fullmatch(r"([A-Za-z0-9]+(-[A-Za-z0-9]+)*)?", slug(text))
