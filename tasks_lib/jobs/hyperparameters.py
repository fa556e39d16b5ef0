"""Hyperparameters as the strings that SageMaker carries. Pure.

The worker toolkit decodes them to the author's values (`worker_toolkit/environment.py`).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from tasks_lib.errors import InvalidHyperparameter
from tasks_lib.jobs.naming import check_variables

_LINE_BREAK = re.compile("[\n\r\x85\u2028\u2029]")  # what `.` does not match in a Java regular expression


def encode_hyperparameters(values: Mapping[str, Any]) -> dict[str, str]:
    """Return hyperparameters as the strings that SageMaker carries.

    Text is sent as it is, and any other value as JSON. Text that reads as JSON is quoted, so that `"1"` and `1` stay
    different. So is text with a line break, which SageMaker's pattern does not allow.

    Raises:
        InvalidHyperparameter: A value cannot be JSON or is not a finite number, or a name is empty or not a `str`.
        InvalidName: Two names would share a variable in the job.
    """
    for name in values:
        if not isinstance(name, str) or not name:
            raise InvalidHyperparameter(f"A hyperparameter is named {name!r}.", fix="name it by a text.")
    check_variables("hyperparameters", "SM_HP_", values)
    return {name: _encode(name, value) for name, value in values.items()}


def _encode(name: str, value: Any) -> str:
    if isinstance(value, str) and not _LINE_BREAK.search(value) and not _reads_as_json(value):
        return value
    try:
        value = value.item() if callable(getattr(value, "item", None)) else value  # scalars of numpy and torch
        return json.dumps(value, allow_nan=False, sort_keys=True)
    except (TypeError, ValueError, RuntimeError) as error:  # also an array or tensor of several numbers
        wrong = f"is not valid JSON: {type(value).__name__} ({error})"
        if isinstance(value, float) and not math.isfinite(value):
            wrong = f"is not a finite number: {value!r}"
        raise InvalidHyperparameter(
            f"Hyperparameter {name!r} {wrong}.",
            fix="give text, numbers, booleans, None, lists or dicts of them; pass larger data as an input.",
        ) from error


def _reads_as_json(text: str) -> bool:
    try:
        json.loads(text)
    except RecursionError:  # the limit depends on the stack of the reader; quoted text is read back in any case
        return True
    except ValueError:
        return False
    return True
