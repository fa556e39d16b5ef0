"""Names: SageMaker takes every one that we make, and the same work always gets the same one."""

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
    """Every task name that we take gives a job name that botocore's own pattern and length allow."""
    rule = sagemaker_model.shape_for(shape).metadata

    @given(TASK_NAMES, URIS, FINGERPRINTS, ATTEMPTS)
    def holds(task, uri, fingerprint, attempt):
        name = job_name(check_task_name(task), uri, fingerprint, attempt)

        assert re.fullmatch(rule["pattern"], name)
        assert rule["min"] <= len(name) <= rule["max"]

    holds()


@given(TASK_NAMES, URIS, FINGERPRINTS, ATTEMPTS)
def test_job_names_are_stable(task, uri, fingerprint, attempt):
    """Two processes that want the same work compute the same name."""
    assert job_name(task, uri, fingerprint, attempt) == job_name(task, uri, fingerprint, attempt)


def test_a_known_job_name_does_not_change():
    """The name is an idempotency key across versions too: another one would pay for everything again."""
    assert job_name("fit-C1.0", "s3://bucket/demo/fit-C1.0/", "0" * 64, 1) == "fit-C1-0-13bee439c06b0536-1"


@given(TASK_NAMES, st.lists(URIS, min_size=2, max_size=2, unique=True), FINGERPRINTS)
def test_two_places_never_share_a_name(task, uris, fingerprint):
    """The task's URI is part of the name: two projects with one stem never meet."""
    first, second = (job_name(task, uri, fingerprint, 1) for uri in uris)

    assert first != second


@given(TASK_NAMES, URIS, st.lists(FINGERPRINTS, min_size=2, max_size=2, unique=True))
def test_two_works_never_share_a_name(task, uri, fingerprints):
    """The fingerprint is part of the name."""
    first, second = (job_name(task, uri, fingerprint, 1) for fingerprint in fingerprints)

    assert first != second


@given(TASK_NAMES, URIS, FINGERPRINTS, st.lists(ATTEMPTS, min_size=2, max_size=2, unique=True))
def test_two_attempts_never_share_a_name(task, uri, fingerprint, attempts):
    """The attempt is part of the name, however long the stem: it is the stem that is shortened."""
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
    """A name that is no folder and no stem is refused before anything is done, and the error says what to do."""
    with pytest.raises(InvalidName) as caught:
        check_task_name(name)

    assert repr(name) in str(caught.value)
    assert "To resolve this" in str(caught.value)


@given(st.text(max_size=300))
@example("long name " * 20)
@example("a" * 129)
def test_a_suggested_name_is_one_that_is_taken(name):
    """Whoever copies the suggestion out of the error is not refused a second time."""
    try:
        check_task_name(name)
    except InvalidName as error:
        suggested = re.search(r"for example '(.*)'\.$", error.fix)
        if suggested:
            assert check_task_name(suggested[1]) == suggested[1]


@given(TASK_NAMES)
def test_good_task_names_stay_what_they_are(name):
    """Letters, digits, dots, underscores and dashes pass unchanged."""
    assert check_task_name(name) == name


def test_channel_names_fit_the_model_of_aws(sagemaker_model):
    """What we take for a channel, SageMaker takes."""
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
    """Also the channel that carries the code."""
    with pytest.raises(InvalidName, match="cannot be a SageMaker channel"):
        check_channel_name(name)


def test_the_name_of_the_state_input_is_reserved():
    """No channel may take the name under which the previous state travels into a processing job."""
    with pytest.raises(InvalidName):
        check_channel_name("ssm_state")


@given(TASK_NAMES, URIS, FINGERPRINTS, ATTEMPTS)
def test_a_job_is_told_by_its_stem(task, uri, fingerprint, attempt):
    """A job that was named for a task is found among its candidates."""
    assert is_job_of(job_name(task, uri, fingerprint, attempt), task)


@pytest.mark.parametrize("other", ["fit-all", "fi", "foobar"])
def test_a_job_is_not_taken_for_a_task_with_a_similar_name(other):
    """`foo` is not `foobar`: the whole stem counts."""
    assert not is_job_of(job_name(other, "s3://b/p/", "0" * 64, 1), "fit")
    assert not is_job_of(job_name("fit", "s3://b/p/", "0" * 64, 1), other)


@pytest.mark.parametrize(
    "name", ["fit", "fit-1", "fit-0123456789abcdef", "-0123456789abcdef-1", "fit-0123456789ABCDEF-1"]
)
def test_a_foreign_job_name_is_nobodys(name):
    """Names that `job_name` cannot have made are not ours."""
    assert not is_job_of(name, "fit")


@given(st.text(max_size=80))
def test_a_slug_is_made_of_what_job_names_allow(text):
    """Letters, digits and single dashes, none at the ends."""
    assert re.fullmatch(r"([A-Za-z0-9]+(-[A-Za-z0-9]+)*)?", slug(text))
