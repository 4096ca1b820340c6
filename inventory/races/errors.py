"""Errors of the explorer itself. An anomaly that it finds is a Result, not an error."""

from __future__ import annotations


class RacesError(Exception):
    """The explorer can't tell the truth about a scenario; the message says why."""


class Misuse(RacesError):
    """The scenario can't be explored as it is; the message says what to change."""


class Unrepeatable(RacesError):
    """The same choices led somewhere else: the sessions depend on more than the schedule.

    The message names the difference, as it was and as it is, and says what may be the cause.
    """

    def __init__(self, difference: str) -> None:
        super().__init__(
            f"{difference}\nThe sessions depend on more than the schedule: a cache, a variable in "
            "Python that outlives a schedule (of a module, or lru_cache), the clock, chance, or "
            "rows that setup() doesn't reset. Let setup() bring all of it back to the same state."
        )


class ImpossibleSchedule(RacesError):
    """A schedule asks for a session that can't go on at that point."""


class StepTimedOut(RacesError):
    """A session took too long: it neither ended, nor came to a statement, nor waited for another.

    Its statement was cancelled, its connection closed by the server; the message names it.
    """


class SqlAroundTheGate(Misuse):
    """A session went past Django's cursors to PostgreSQL, where the explorer can't stop it."""


class RaceFound(AssertionError):
    """The invariant does not hold in every schedule; the message is the shortest transcript."""


class LeftOut(UserWarning):
    """A test of unittest passes, and its exploration left something out; the message says what."""
