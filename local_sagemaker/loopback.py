"""Whether a request comes from this machine's own programs, or from a web page. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit


def foreign_host(headers: Mapping[str, str]) -> str | None:
    """Say that a request was meant for another host; None where it was not.

    A page that rebinds its own name to 127.0.0.1 cannot hide that name.
    """
    host = headers.get("host", "")
    if _is_loopback(f"//{host}"):
        return None
    return f"The Host header is {host!r}; this server answers to loopback names only, such as 127.0.0.1."


def from_a_page(headers: Mapping[str, str]) -> str | None:
    """Say that a web page sent a request; None where a program did.

    Browsers say so by themselves, and no page can keep them from it: by `Sec-Fetch-…` on loopback, whatever the page,
    and by `Origin` and `Referer`. A page that this server itself answered with is one of them.
    """
    if any(name.lower().startswith("sec-fetch-") for name in headers):
        return "Requests from a web browser are refused, but for presigned addresses that read."
    for name in ("origin", "referer"):
        page = headers.get(name)
        if page is not None and not _is_loopback(page):
            return f"Requests from the web page {page!r} are refused."
    return None


def _is_loopback(url: str) -> bool:
    try:
        name = urlsplit(url).hostname
    except ValueError:
        return False
    return name is not None and is_loopback_host(name)


def is_loopback_host(name: str) -> bool:
    """Tell whether a host's name or address is this machine's own loopback."""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
