"""The table of statuses: complete against AWS's model, and pessimistic about everything else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_lib.status import PHASES, Phase, phase_of


def test_the_table_equals_the_enums_of_aws(sagemaker_model):
    """A status that AWS adds or drops is noticed with the next update of botocore."""
    expected = {
        status
        for shape in ("TrainingJobStatus", "ProcessingJobStatus")
        for status in sagemaker_model.shape_for(shape).enum
    }

    assert expected == set(PHASES)


def test_only_one_word_means_success():
    """`Stopped` is no success, whatever the neighbours say."""
    assert [status for status, phase in PHASES.items() if phase is Phase.COMPLETED] == ["Completed"]


@given(st.text())
def test_an_unknown_status_is_never_a_success(status):
    """A word that AWS invents tomorrow is waited for, not believed in."""
    if status not in PHASES:
        assert phase_of(status) is Phase.UNKNOWN
        assert not phase_of(status).terminal


@pytest.mark.parametrize(
    ("status", "terminal"),
    [("InProgress", False), ("Stopping", False), ("Completed", True), ("Failed", True), ("Stopped", True)],
)
def test_what_is_over_is_over(status, terminal):
    """Only the three last words end a wait."""
    assert phase_of(status).terminal is terminal
