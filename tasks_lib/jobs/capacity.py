"""The ladder of what a job may run on where AWS has no capacity: instance types in the caller's order, then on-demand.

Pure. A rung is what one attempt asks for. SageMaker itself goes through up to five types in one request
(`InstancePreferences`), but only for training, and not for spot (API reference, ResourceConfig); there each type is a
rung of its own. None of this enters the fingerprint, so all rungs are attempts at the same work.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile


@dataclass(frozen=True)
class Rung:
    """What one attempt asks for.

    Args:
        types: Instance types, the preferred first; more than one by `InstancePreferences`.
        spot: Whether on spot instances.
    """

    types: tuple[str, ...]
    spot: bool = False


def ladder(types: Sequence[str], *, at_once: int, spot: bool, on_demand_after_spot: bool) -> tuple[Rung, ...]:
    """Return the rungs in their order; at least one.

    Args:
        types: Instance types in the caller's order.
        at_once: Number of types that one request may list.
        spot: Whether spot instances are asked for first.
        on_demand_after_spot: Whether on-demand ones may follow.
    """
    return tuple(_rungs(tuple(types), at_once, spot=spot, on_demand=on_demand_after_spot or not spot))


def _rungs(types: tuple[str, ...], at_once: int, *, spot: bool, on_demand: bool) -> Iterator[Rung]:
    if spot:
        yield from (Rung((one,), spot=True) for one in types)
    if on_demand:
        yield from (Rung(types[start : start + at_once]) for start in range(0, len(types), at_once))


def rung_after(rungs: Sequence[Rung], without_capacity: int) -> Rung:
    """Return the rung of the next attempt; behind the last comes the first again.

    Args:
        rungs: The ladder.
        without_capacity: How many attempts in a row have just ended for want of capacity.
    """
    return rungs[without_capacity % len(rungs)]


def attempts_without_capacity(spent: Sequence[tuple[str, str | None]], flow_run: str | None) -> int:
    """Return how many of the last attempts this flow run saw end for want of capacity, without another between.

    Args:
        spent: Why each attempt is over, and in which flow run that was written down; the oldest first.
        flow_run: The flow run; none outside a flow.
    """
    return len([*takewhile(lambda each: each == ("capacity", flow_run), reversed(spent))])
