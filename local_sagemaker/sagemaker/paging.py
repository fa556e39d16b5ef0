"""Where a listing goes on: the opaque `NextToken` of the SageMaker operations.

A token holds an offset, the moment of the first page and a digest of the request. The moment keeps jobs that were
created since out of the later pages, which would shift them; the digest refuses a token with another request. A key
instead of the offset would also survive deletions between two pages, but the names in it sort by status or by name as
well as by time. Pure but for the clock; used by `job_operations` and `search`.
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
    """The beginning of one page.

    Attributes:
        offset: how many results come before it.
        before: only jobs created before this moment (epoch seconds) belong to the listing; None on the first page.
    """

    offset: int = 0
    before: float | None = None

    def next(self, size: int, now: float | None = None) -> Page:
        """The page after this one, which had `size` results."""
        began = self.before if self.before is not None else (time.time() if now is None else now)
        return replace(self, offset=self.offset + size, before=began)

    def token(self, asked: dict[str, Any]) -> str:
        """The token for this page of the listing that `asked` describes."""
        held = json.dumps([self.offset, self.before, _digest(asked)])
        return base64.urlsafe_b64encode(held.encode()).decode()


def read_token(token: str | None, asked: dict[str, Any]) -> Page:
    """Return the page that a token stands for, the first one without a token.

    Raises:
        ApiError: the token is damaged, or comes from another request.
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
