"""The names of anomalies, and a finding: an anomaly of a run, in words."""

from __future__ import annotations

from dataclasses import dataclass

from .session import Step

LOST_UPDATE = "lost update"
STALE_CHECK = "stale check"
PHANTOM = "phantom"
WRITE_SKEW = "write skew"
DEADLOCKED = "deadlock"
REFUSED = "serialization failure"
CONSTRAINT = "constraint violation"
UNEXPLAINED = "not serializable"
NO_RACE = "no race"


@dataclass(frozen=True)
class Finding:
    """An anomaly in a run."""

    anomaly: str
    sentence: str
    steps: tuple[Step, ...] = ()
    """The steps that the sentence speaks of."""
