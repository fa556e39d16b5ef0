"""What a job costs: known by the project's own prices, else unknown."""

import pytest

from tasks_lib.jobs.job import cost_of, shown_cost


def test_an_hour_on_two_instances():
    """Seconds are billed for each host."""
    assert cost_of(0.5, 2, 3600) == 1.0


@pytest.mark.parametrize("unknown", [(None, 1, 10), (0.5, None, 10), (0.5, 1, None)])
def test_what_is_not_known_is_not_nought(unknown):
    """A bill that reads 0 would be believed."""
    assert cost_of(*unknown) is None
    assert shown_cost(None) == "unknown"


@pytest.mark.parametrize(("cost", "shown"), [(12.346, "12.35"), (0.0042, "less than 0.01"), (0.0, "0.00")])
def test_small_costs_are_not_nothing(cost, shown):
    """A cent's fraction is not rounded away."""
    assert shown_cost(cost) == shown
