"""Numbers that JSON does not have, as text. Pure; a leaf module, so that the console can import it before Prefect."""

from __future__ import annotations

import math
from typing import TypeVar

T = TypeVar("T")


def strict(value: T) -> T | str:
    """Return a value as it is, but a number that is not finite as a text that `float` parses.

    Returns:
        The value, or `NaN`, `Infinity` or `-Infinity`.
    """
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
