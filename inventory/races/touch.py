"""The rows through which two sessions' steps can concern each other.

Two steps that can't are independent: their order changes nothing, so it is enough to try one. The
rules are those of READ COMMITTED: a statement sees only rows that were committed when it began,
and a write waits for another write of the same row until that transaction ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

Extent = Mapping[str, frozenset[str] | None]
"""Table → the primary keys of rows; None: any of its rows."""


@dataclass(frozen=True, slots=True)
class Touch:
    """The rows that a step sees, takes, changes, shows and frees."""

    sees: Extent = field(default_factory=dict)
    """Committed rows on which its outcome depends."""
    takes: Extent = field(default_factory=dict)
    """Rows that it locks or changes."""
    changes: Extent = field(default_factory=dict)
    """Rows whose change others see once it is committed."""
    checks: Extent = field(default_factory=dict)
    """Rows that COMMIT looks at and locks for its sake: for deferred foreign keys."""
    shows: Extent = field(default_factory=dict)
    """Rows whose changes others see from now on."""
    frees: Extent = field(default_factory=dict)
    """Rows for which nobody has to wait any more."""
    is_of_all: bool = False
    """It may depend on whatever other sessions do, also in Python."""
    is_unknown: bool = False
    """It may do anything, as a function may: it concerns every step that touches something."""

    def concerns(self, other: Touch) -> bool:
        """Whether the order of the two steps may matter. They are of different sessions."""
        if self.is_of_all or other.is_of_all:
            return True
        if self.is_unknown or other.is_unknown:
            return not (self.is_nothing or other.is_nothing)
        return meet(self.takes, other.takes) or self._disturbs(other) or other._disturbs(self)

    def _disturbs(self, other: Touch) -> bool:
        return (
            meet(self.shows, other.sees)
            or meet(self.shows, other.takes)
            or meet(self.frees, other.takes)
        )

    @property
    def is_nothing(self) -> bool:
        return not (
            self.is_of_all or self.is_unknown or self.sees or self.takes or self.shows or self.frees
        )

    def joined(self, step: Touch) -> Touch:
        """The touch of a transaction, of which this is the beginning, with another step."""
        if self.is_unknown or step.is_unknown:
            return UNKNOWN
        return Touch(
            takes=united(self.takes, step.takes),
            changes=united(self.changes, step.changes),
            checks=united(self.checks, step.checks),
        )

    def at_end(self, *, is_committed: bool) -> Touch:
        """The touch of the COMMIT or ROLLBACK that ends this transaction."""
        if self.is_unknown:
            return UNKNOWN
        if not is_committed:
            return Touch(frees=self.takes)
        return Touch(sees=self.checks, takes=self.checks, shows=self.changes, frees=self.takes)

    def reading_clock(self) -> Touch:
        """The touch of a step that also reads the clock, which must not go backwards."""
        return replace(self, sees=united(self.sees, THE_CLOCK), shows=united(self.shows, THE_CLOCK))

    def at_once(self) -> Touch:
        """The touch of a statement that is its own transaction."""
        return replace(
            self,
            sees=united(self.sees, self.checks),
            takes=united(self.takes, self.checks),
            shows=self.changes,
        )


THE_CLOCK: Extent = {"(clock)": None}
NOTHING = Touch()
UNKNOWN = Touch(is_unknown=True)


def meet(some: Extent, others: Extent) -> bool:
    """Whether a row may be in both."""
    return any(
        keys is None or others[table] is None or not keys.isdisjoint(others[table] or ())
        for table, keys in some.items()
        if table in others
    )


def all_of(tables: Iterable[str]) -> Extent:
    """Any rows of these tables."""
    return dict.fromkeys(tables)


def united(some: Extent, others: Extent) -> Extent:
    """The rows of both."""
    extent = dict(some)
    for table, keys in others.items():
        known = extent.get(table, frozenset())
        extent[table] = None if keys is None or known is None else known | keys
    return extent
