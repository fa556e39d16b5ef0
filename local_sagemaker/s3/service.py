"""What the operations of the REST API share: the store, its uploads and its owner."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from local_sagemaker.s3.multipart import MultipartUploads
from local_sagemaker.s3.store import ObjectStore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.responses import Response

    from local_sagemaker.s3.documents import Value
    from local_sagemaker.s3.request import S3Request

    Handler = Callable[["Service", S3Request, bytes], Response]
    Handlers = Mapping[str, Handler]


@dataclass(frozen=True)
class Service:
    """A store, the account that owns it (12 digits), and its region."""

    store: ObjectStore
    account: str
    region: str

    @cached_property
    def uploads(self) -> MultipartUploads:
        """The multipart uploads of the store."""
        return MultipartUploads(self.store)

    @cached_property
    def owner(self) -> list[tuple[str, Value]]:
        """The owner as documents show it: a canonical user ID of 64 hex digits, derived from the account."""
        return [("ID", hashlib.sha256(self.account.encode()).hexdigest()), ("DisplayName", self.account)]
