"""What a job costs, as far as one can know. Pure.

AWS tells no prices with its jobs, and price lists change; so the only prices are those in the project
(`hourly_prices`), and where there is none the answer is "unknown", never 0. SageMaker bills by the second, for each
host: `BillableTimeInSeconds` times the number of instances (API reference of DescribeTrainingJob). The discount of spot
instances is contained in those seconds.
"""

from __future__ import annotations

_SECONDS_AN_HOUR = 3600
_LEAST = 0.01


def cost_of(hourly_price: float | None, instances: int | None, seconds: float | None) -> float | None:
    """Return the cost in the currency of the price; `None` where anything of it is unknown.

    Args:
        hourly_price: Of one instance.
        instances: How many.
        seconds: Billed for each of them.
    """
    if hourly_price is None or instances is None or seconds is None:
        return None
    return hourly_price * instances * seconds / _SECONDS_AN_HOUR


def shown_cost(cost: float | None) -> str:
    """Return a cost for a reader: two digits behind the point, or `unknown`."""
    if cost is None:
        return "unknown"
    if 0 < cost < _LEAST:
        return f"less than {_LEAST}"
    return f"{cost:.2f}"
