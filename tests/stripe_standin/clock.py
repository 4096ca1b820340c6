"""The stand-in's clock, which tests move."""

from __future__ import annotations

import time


class Clock:
    """The real time, plus the seconds by which it was moved."""

    def __init__(self) -> None:
        self._seconds_ahead = 0

    def now(self) -> int:
        """Return the time in seconds since 1970."""
        return int(time.time()) + self._seconds_ahead

    def advance(self, seconds: int) -> int:
        """Move the clock forward, or back by a negative number; return the new time."""
        self._seconds_ahead += seconds
        return self.now()
