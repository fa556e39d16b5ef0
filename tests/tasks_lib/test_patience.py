"""How long a call bears with what passes by itself."""

from __future__ import annotations

import pytest

from tasks_lib.errors import ServiceFault, Throttled
from tasks_lib.patience import Patience
from tasks_lib.run_context import RunContext


@pytest.fixture
def patience():
    """A patience whose waits take no time."""
    return Patience(RunContext(), "fit", speed=0.0)


def test_throttling_is_borne_as_long_as_it_lasts(patience):
    """It costs no attempt and no money: AWS says that it passes."""
    for _ in range(200):
        patience.bear(Throttled("slow down"))


def test_a_fault_of_aws_is_borne_eight_times(patience):
    """In a row: what goes well in between makes it forget."""
    for _ in range(2):
        for _ in range(8):
            patience.bear(ServiceFault("500"))
        with pytest.raises(ServiceFault):
            patience.bear(ServiceFault("500"))
        patience.calm()
