"""Fallbacks for insufficient capacity: instance types in the caller's order, spot first, then on-demand.

Pure. An `InstanceChoice` is what one attempt asks for. SageMaker itself goes through up to five types in one request
(`InstancePreferences`), but only for training, and not for spot (API reference, ResourceConfig); there each type is a
choice of its own. Instances are not in the fingerprint, so each choice is an attempt at the same work.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile


@dataclass(frozen=True)
class InstanceChoice:
    """What one attempt asks for.

    Args:
        types: Instance types, the preferred first; more than one by `InstancePreferences`.
        spot: Whether on spot instances.
    """

    types: tuple[str, ...]
    spot: bool = False


def fallbacks(
    types: Sequence[str], *, at_once: int, spot: bool, on_demand_after_spot: bool
) -> tuple[InstanceChoice, ...]:
    """Return the choices in their order; at least one.

    Args:
        types: Instance types in the caller's order.
        at_once: Number of types that one request may list.
        spot: Whether spot instances are asked for first.
        on_demand_after_spot: Whether on-demand ones may follow.
    """
    return tuple(_choices(tuple(types), at_once, spot=spot, on_demand=on_demand_after_spot or not spot))


def _choices(types: tuple[str, ...], at_once: int, *, spot: bool, on_demand: bool) -> Iterator[InstanceChoice]:
    if spot:
        yield from (InstanceChoice((one,), spot=True) for one in types)
    if on_demand:
        yield from (InstanceChoice(types[start : start + at_once]) for start in range(0, len(types), at_once))


def choice_after(choices: Sequence[InstanceChoice], without_capacity: int) -> InstanceChoice:
    """Return the choice of the next attempt; behind the last comes the first again.

    Args:
        choices: The fallbacks.
        without_capacity: How many attempts in a row have just ended for want of capacity.
    """
    return choices[without_capacity % len(choices)]


def attempts_without_capacity(closed: Sequence[tuple[str, str | None]], flow_run: str | None) -> int:
    """Return how many of the last attempts this flow run saw end for want of capacity, without another between.

    Args:
        closed: Why each attempt is over, and in which flow run that was written down; the oldest first.
        flow_run: The flow run; none outside a flow.
    """
    return len([*takewhile(lambda each: each == ("capacity", flow_run), reversed(closed))])
