"""The cost of a job, by the project's prices. Pure.

SageMaker reports no prices with its jobs, and price lists change. So the only prices are the project's
(`hourly_prices`); without one the cost is unknown, never 0. SageMaker bills each host by the second:
`BillableTimeInSeconds` times the number of instances (API reference of DescribeTrainingJob). These seconds already
contain the discount of spot instances.
"""

from __future__ import annotations

_SECONDS_AN_HOUR = 3600
_LEAST = 0.01


def cost_of(hourly_price: float | None, instances: int | None, seconds: float | None) -> float | None:
    """Return the cost in the currency of the price; None if any argument is None.

    Args:
        hourly_price: Price of one instance for one hour; None if unknown.
        instances: Number of instances; None if unknown.
        seconds: Billed seconds of each instance; None if unknown.
    """
    if hourly_price is None or instances is None or seconds is None:
        return None
    return hourly_price * instances * seconds / _SECONDS_AN_HOUR


def shown_cost(cost: float | None) -> str:
    """Return a cost as text with two decimal places, or `less than 0.01`, or `unknown`."""
    if cost is None:
        return "unknown"
    if 0 < cost < _LEAST:
        return f"less than {_LEAST}"
    return f"{cost:.2f}"
