"""What the explorer refuses, and what it gives up on. An anomaly that it finds is a Result."""

from __future__ import annotations


class RacesError(Exception):
    """Anything that keeps the explorer from telling the truth about a scenario."""


class Misuse(RacesError):
    """The scenario can't be explored as it is; the message says what to change."""


class Unrepeatable(RacesError):
    """The same choices led somewhere else: the sessions depend on more than the schedule.

    The message names the statement that differed, as it was and as it is.
    """


class ImpossibleSchedule(RacesError):
    """A schedule asks for a session that can't go on at that point."""


class StepTimedOut(RacesError):
    """A session was neither done, nor at its next statement, nor waiting for another in time.

    Its statement was cancelled, its connection closed by the server; the message names it.
    """


class SqlAroundTheGate(Misuse):
    """A session talked to PostgreSQL other than by Django's cursors: that can't be held back."""


class RaceFound(AssertionError):
    """The invariant does not hold in every schedule; the message is the shortest transcript."""
