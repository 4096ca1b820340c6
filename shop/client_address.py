"""The network address of a client, as limits and the access log know it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address
from typing import Any

from django.conf import settings

UNKNOWN_ADDRESS = "0.0.0.0"


def client_address_in(environ: Mapping[str, Any]) -> str:
    """The address of the client whose request WSGI describes so.

    Behind PROXIES proxies of our own, it is the entry of X-Forwarded-For that the outermost proxy
    wrote: so many entries from the right. The client may have made up all entries left of it.
    """
    forwarded = environ.get("HTTP_X_FORWARDED_FOR", "").split(",")
    candidates = [environ.get("REMOTE_ADDR", "")]
    if 0 < settings.PROXIES <= len(forwarded):
        candidates.insert(0, forwarded[-settings.PROXIES].strip())
    return next(filter(None, map(_address, candidates)), UNKNOWN_ADDRESS)


@functools.lru_cache(maxsize=10_000)
def _address(text: str) -> str:
    """The address in its usual form; empty if the text is none."""
    try:
        address = ip_address(text)
    except ValueError:
        return ""
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(address)
