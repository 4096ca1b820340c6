"""Tries again after a conflict: soon, at random times, and not for ever."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

from inventory.exceptions import TooMuchContention

SECONDS = 30.0
FIRST_PAUSE = 0.002  # seconds
LONGEST_PAUSE = 0.1  # seconds


def attempts(sku: str) -> Iterator[int]:
    """Yield 1, 2, … with a pause of random length before each but the first.

    The pauses grow, up to LONGEST_PAUSE, and have full jitter: buyers who met once must not
    meet again (Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).

    Raises TooMuchContention after SECONDS.
    """
    deadline = time.monotonic() + SECONDS
    pause = FIRST_PAUSE
    attempt = 1
    yield attempt
    while time.monotonic() < deadline:
        time.sleep(random.uniform(0, pause))
        pause = min(2 * pause, LONGEST_PAUSE)
        attempt += 1
        yield attempt
    raise TooMuchContention(
        f"Too many buyers of {sku} at once: no gap in {SECONDS:.0f} seconds. Please try again."
    )
