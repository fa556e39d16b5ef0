"""The table of job statuses: it has all of botocore's, and an unknown status is not terminal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_lib.jobs.kind import Phase
from tasks_lib.jobs.kinds import KINDS

KIND = pytest.mark.parametrize("kind", KINDS.values(), ids=str)


def test_the_table_equals_the_enums_of_aws(sagemaker_model):
    """The table has exactly the statuses in botocore's model, so that an update with others is noticed."""
    for kind in KINDS.values():
        assert set(sagemaker_model.shape_for(kind.api.status).enum) <= set(kind.statuses)
    expected = {status for kind in KINDS.values() for status in sagemaker_model.shape_for(kind.api.status).enum}

    assert expected == {status for kind in KINDS.values() for status in kind.statuses}


@KIND
def test_only_one_word_means_success(kind):
    """Only `Completed` is a success; `Stopped` is not."""
    assert [status for status, phase in kind.statuses.items() if phase is Phase.COMPLETED] == ["Completed"]


@KIND
@given(st.text())
def test_an_unknown_status_is_never_a_success(kind, status):
    """An unknown status is never a success and never terminal, so the job is waited for."""
    if status not in kind.statuses:
        assert kind.phase_of(status) is Phase.UNKNOWN
        assert not kind.phase_of(status).terminal


@KIND
@pytest.mark.parametrize(
    ("status", "terminal"),
    [("InProgress", False), ("Stopping", False), ("Completed", True), ("Failed", True), ("Stopped", True)],
)
def test_what_is_over_is_over(kind, status, terminal):
    """Exactly `Completed`, `Failed` and `Stopped` are terminal."""
    assert kind.phase_of(status).terminal is terminal
