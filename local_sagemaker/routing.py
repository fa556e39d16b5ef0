"""For which service a request is, and whether it may come in at all. Pure; used by `application`."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

# Credential=AKID/date/region/service/aws4_request; an access key may hold slashes in none of its forms.
_SCOPE = re.compile(r"[^/,\s]+/\d{8}/(?P<region>[^/,\s]+)/(?P<service>[^/,\s]+)/aws4_request")


@dataclass(frozen=True)
class CredentialScope:
    """The service and region that a request was signed for."""

    service: str
    region: str


UNSIGNED = CredentialScope("s3", "us-east-1")
"""Requests without a SigV4 signature are S3's, as with public objects; so are those with its old signature."""


def credential_scope(headers: Mapping[str, str], query: Mapping[str, str]) -> CredentialScope:
    """Return what a request was signed for: by its header, or by its query if it is presigned.

    The signature itself is not checked: any key is accepted here.
    """
    credential = headers.get("authorization", "") or query.get("X-Amz-Credential", "")
    found = _SCOPE.search(credential)
    return CredentialScope(found["service"].lower(), found["region"]) if found else UNSIGNED


def refusal(headers: Mapping[str, str]) -> str | None:
    """Say why a request must not come in; None if it may.

    A web page that the user visits can send requests to loopback. It cannot hide its origin, and one that rebinds its
    own name to 127.0.0.1 cannot hide that name.
    """
    host = headers.get("host", "")
    if not _is_loopback(f"//{host}"):
        return f"The Host header is {host!r}; this server answers to loopback names only, such as 127.0.0.1."
    origin = headers.get("origin")
    if origin is not None and not _is_loopback(origin):
        return f"Requests from the web page {origin!r} are refused."
    return None


def _is_loopback(url: str) -> bool:
    try:
        name = urlsplit(url).hostname
    except ValueError:
        return False
    if name is None or name == "localhost":
        return name is not None
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
