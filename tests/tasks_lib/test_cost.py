"""The cost of a job: the project's price times the billed time, or unknown."""

import pytest

from tasks_lib.jobs.job import cost_of, shown_cost


def test_an_hour_on_two_instances():
    """Billed seconds count for each instance."""
    assert cost_of(0.5, 2, 3600) == 1.0


@pytest.mark.parametrize("unknown", [(None, 1, 10), (0.5, None, 10), (0.5, 1, None)])
def test_an_unknown_cost_is_not_zero(unknown):
    """If a factor is unknown, the cost is unknown, not 0."""
    assert cost_of(*unknown) is None
    assert shown_cost(None) == "unknown"


@pytest.mark.parametrize(("cost", "shown"), [(12.346, "12.35"), (0.0042, "less than 0.01"), (0.0, "0.00")])
def test_small_costs_are_not_nothing(cost, shown):
    """A cost below one cent is not rounded to 0."""
    assert shown_cost(cost) == shown
