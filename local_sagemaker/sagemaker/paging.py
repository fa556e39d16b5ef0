"""The position of a page in a listing: the opaque `NextToken` of the SageMaker operations. Pure, except for the clock.

A token has an offset, the time of the first page and a digest of the request. The time excludes newer jobs from later
pages, which would shift them. The digest refuses a token with another request. A sort key in place of the offset would
also survive deletions between pages, but listings sort by status and name as well as by time.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from dataclasses import dataclass, replace
from typing import Any

from local_sagemaker.sagemaker.rules import invalid


@dataclass(frozen=True)
class Page:
    """The position of one page.

    Attributes:
        offset: how many results precede the page.
        before: the listing has only jobs created before this time, in epoch seconds; None on the first page.
    """

    offset: int = 0
    before: float | None = None

    def next(self, size: int, now: float | None = None) -> Page:
        """Return the page after this one, which has `size` results; `now` is the clock's time by default."""
        began = self.before if self.before is not None else (time.time() if now is None else now)
        return replace(self, offset=self.offset + size, before=began)

    def token(self, asked: dict[str, Any]) -> str:
        """Return the token for this page of the listing that the request `asked` describes."""
        held = json.dumps([self.offset, self.before, _digest(asked)])
        return base64.urlsafe_b64encode(held.encode()).decode()


def read_token(token: str | None, asked: dict[str, Any]) -> Page:
    """Return the page of a token; the first page without one.

    Raises:
        ApiError: the token is damaged, or belongs to another request.
    """
    if token is None:
        return Page()
    try:
        offset, before, digest = json.loads(base64.urlsafe_b64decode(token))
    except ValueError as error:
        raise invalid("Invalid NextToken. Give the token of the last answer unchanged.") from error
    if digest != _digest(asked):
        raise invalid("Invalid NextToken. It belongs to a request with other parameters.")
    return Page(offset, before)


def _digest(asked: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]
