"""A provider that has just been silent isn't asked again at once where somebody waits.

Each buyer who waits for a silent provider takes a thread of the web server. A few of them would
take all of its threads, and the shop would be as silent as the provider. So the first ones wait,
and for some seconds the others read at once that the provider can't be reached. Background work
goes on asking: nobody waits for it. Each process finds out for itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from shop.payments.base import ProviderUnavailable, somebody_waits

SILENT = 2.0  # seconds; an error that comes sooner takes no thread for long
ASK_AGAIN_AFTER = 5.0  # seconds

_silent_until: dict[str, float] = {}  # by the provider's slug, on this process's clock


@contextmanager
def noticed(slug: str) -> Iterator[None]:
    """Notice whether the provider is silent in this block, or raise ProviderUnavailable at once."""
    began = time.monotonic()
    if somebody_waits() and began < _silent_until.get(slug, began):
        raise ProviderUnavailable(f"The provider {slug} was silent a moment ago.")
    try:
        yield
    except ProviderUnavailable:
        ended = time.monotonic()
        if ended - began >= SILENT:
            _silent_until[slug] = ended + ASK_AGAIN_AFTER
        raise


def end(slug: str) -> None:
    """Ask the provider again: it has just sent us something."""
    _silent_until.pop(slug, None)
