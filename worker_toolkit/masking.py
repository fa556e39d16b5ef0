"""The rule for masking secret values in a log: which values, in which spellings.

The bootstrap masks the values of a task's secrets, which only the job knows. `tasks_lib` masks values of variables and
hyperparameters whose names look like secrets. Both use this rule.
"""

from __future__ import annotations

import json
from typing import Iterator
from urllib.parse import quote

MASK = "****"

SHORTEST = 4
"""Characters of the shortest value that is masked; masking shorter ones would make a log unreadable."""

_NEVER_SECRET = {"auto", "false", "none", "null", "true"}


def spellings(value: str) -> Iterator[str]:
    """Yield a secret and each of its lines, as plain text, URL, JSON and Python write them."""
    for text in (value, *value.splitlines()):
        bare = text.strip()
        if len(bare) >= SHORTEST and bare.lower() not in _NEVER_SECRET and bare.strip("*"):
            yield from (bare, quote(bare, safe=""), _in_quotes(json.dumps(bare)), _in_quotes(repr(bare)))
            yield _in_quotes(json.dumps(bare, ensure_ascii=False))


def _in_quotes(quoted: str) -> str:
    return quoted[1:-1]
