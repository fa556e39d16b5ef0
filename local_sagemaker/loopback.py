"""Checks that a request comes from a program on this machine and not from a web page. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit


def host_refusal(headers: Mapping[str, str]) -> str | None:
    """Return why a request for another host is refused; None if its Host header is a loopback name.

    It stops DNS rebinding: a page that binds its own name to 127.0.0.1 cannot change the Host header.
    """
    host = headers.get("host", "")
    if _is_loopback(f"//{host}"):
        return None
    return f"The Host header is {host!r}; this server answers to loopback names only, such as 127.0.0.1."


def web_page_refusal(headers: Mapping[str, str]) -> str | None:
    """Return why a request from a web page is refused; None if a program sent it.

    Browsers send `Sec-Fetch-…` headers to loopback, and `Origin` and `Referer`. A page cannot suppress them all. Pages
    that this server answered with are refused, too.
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
    """Tell whether a host name or address is a loopback one."""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
