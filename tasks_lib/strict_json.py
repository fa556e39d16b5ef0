"""Numbers that JSON does not have, as words that it has. Pure, and a leaf: the console imports it before Prefect."""

from __future__ import annotations

import math
from typing import TypeVar

T = TypeVar("T")


def strict(value: T) -> T | str:
    """Return a value as it is, and a number that is not finite as a word that `float` reads back.

    Returns:
        `NaN`, `Infinity` or `-Infinity` in their case.
    """
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
