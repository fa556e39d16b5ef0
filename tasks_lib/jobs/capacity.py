"""Fallbacks for insufficient capacity: instance types in the caller's order, spot first, then on-demand.

Pure. SageMaker itself tries up to five types of one request (`InstancePreferences`), but only for on-demand training
(API reference, ResourceConfig). For spot and for processing, each type is an instance choice of its own. Instances are
not in the fingerprint, so each choice is an attempt at the same work.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile


@dataclass(frozen=True)
class InstanceChoice:
    """The instances that one attempt asks for.

    Args:
        types: Instance types, the preferred one first. Several are sent as `InstancePreferences`.
        spot: Whether to use spot instances; by default False.
    """

    types: tuple[str, ...]
    spot: bool = False


def fallbacks(
    types: Sequence[str], *, at_once: int, spot: bool, on_demand_after_spot: bool
) -> tuple[InstanceChoice, ...]:
    """Return the instance choices in the order in which they are tried.

    Args:
        types: Instance types in the caller's order.
        at_once: Number of types that one request may list.
        spot: Whether to try spot instances first.
        on_demand_after_spot: Whether to try on-demand instances after spot.
    """
    return tuple(_choices(tuple(types), at_once, spot=spot, on_demand=on_demand_after_spot or not spot))


def _choices(types: tuple[str, ...], at_once: int, *, spot: bool, on_demand: bool) -> Iterator[InstanceChoice]:
    if spot:
        yield from (InstanceChoice((one,), spot=True) for one in types)
    if on_demand:
        yield from (InstanceChoice(types[start : start + at_once]) for start in range(0, len(types), at_once))


def choice_after(choices: Sequence[InstanceChoice], without_capacity: int) -> InstanceChoice:
    """Return the choice of the next attempt; after the last choice comes the first again.

    Args:
        choices: The choices in their order.
        without_capacity: Number of attempts in a row that have just ended by insufficient capacity.
    """
    return choices[without_capacity % len(choices)]


def attempts_without_capacity(closed: Sequence[tuple[str, str | None]], flow_run: str | None) -> int:
    """Return how many of the last attempts in a row this flow run closed for insufficient capacity.

    Args:
        closed: For each closed attempt the reason, and the flow run that closed it; the oldest first.
        flow_run: Id of the flow run; None outside a flow.
    """
    return len([*takewhile(lambda each: each == ("capacity", flow_run), reversed(closed))])
