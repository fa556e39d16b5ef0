"""The instance choices of a job, in the order in which they are tried."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tasks_lib.jobs.capacity import attempts_without_capacity, choice_after, fallbacks

TYPES = st.lists(st.sampled_from([f"ml.g{size}.xlarge" for size in range(12)]), min_size=1, unique=True)
CLOSED = st.lists(
    st.tuples(st.sampled_from(["capacity", "failed", "stopped"]), st.sampled_from(["flow-1", "flow-2", None]))
)


@given(TYPES, st.integers(1, 6), st.booleans(), st.booleans())
def test_every_type_has_its_turn(types, at_once, spot, then_on_demand):
    """Spot choices have one type each, because SageMaker takes no list for spot. On-demand choices have lists.

    Both keep the caller's order.
    """
    choices = fallbacks(types, at_once=at_once, spot=spot, on_demand_after_spot=then_on_demand)
    on_spot = [choice for choice in choices if choice.spot]
    on_demand = [choice for choice in choices if not choice.spot]

    assert [choice.types for choice in on_spot] == ([(one,) for one in types] if spot else [])
    assert [one for choice in on_demand for one in choice.types] == (types if then_on_demand or not spot else [])
    assert all(len(choice.types) <= at_once for choice in on_demand)
    assert choices == (*on_spot, *on_demand)


@given(TYPES, st.integers(0, 40))
def test_behind_the_last_comes_the_first(types, without):
    """After the last choice comes the first again, any number of times."""
    choices = fallbacks(types, at_once=1, spot=True, on_demand_after_spot=True)

    assert choice_after(choices, without) == choices[without % len(choices)]


@given(CLOSED, st.sampled_from(["flow-1", "flow-2", None]), st.integers(0, 5))
def test_only_the_last_attempts_of_this_flow_run_count(closed, flow_run, last):
    """Only this flow run's latest attempts without capacity count. Any other attempt or run resets the count."""
    before = [*closed, ("failed", flow_run)]

    assert attempts_without_capacity([*before, *([("capacity", flow_run)] * last)], flow_run) == last
