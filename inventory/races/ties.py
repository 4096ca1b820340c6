"""Notices reads in which PostgreSQL chose between rows that are equal by ORDER BY.

It gives first whichever it comes to first. That depends on the plan (an index read backwards, or
the whole table in its order) and on where the rows lie on the disk, and so on earlier schedules, on
autovacuum and on whoever else uses the server. A session that goes on with such a row may go on
with another one in the next performance of the same schedule.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from .conductor import Event
from .repeats import shortened
from .schedule import format_schedule
from .server import Server
from .session import Step
from .statements import Kind

LIMIT = re.compile(r"\bLIMIT (\d+)(?= OFFSET \d+$|$)", re.I)
MOST_EQUAL = 20  # rows beyond the limit that are looked at
SETTING = re.compile(r"SET\b|.*\bset_config\b", re.I | re.S)
READ_COMMITTED = "read committed"


class Ties:
    """The reads of all performances that could have got other rows."""

    def __init__(self, server: Server, isolation: str) -> None:
        self._server = server
        self._is_read_committed = isolation == READ_COMMITTED
        self._first: str | None = None

    def look(self, events: list[Event]) -> None:
        """Look whether the latest step could have got other rows. No session may be on its way.

        The rows are read again from outside of the session. So nothing is said of a session that
        has written in its open transaction, or that reads from an older snapshot.
        """
        if self._first is not None or not self._is_read_committed or not events:
            return
        step = events[-1].step
        if leaves_rows_out(step) and sees_what_all_see(step, events):
            [limit] = LIMIT.findall(step.shown)
            with_ties = LIMIT.sub(rf"FETCH FIRST {limit} ROWS WITH TIES", step.shown)
            rows = self._server.rows_if_free(with_ties, int(limit) + MOST_EQUAL)
            if len(rows) > int(limit) and len(set(rows[int(limit) - 1 :])) > 1:
                choices = [event.step.session for event in events if not event.is_completion]
                self._first = in_words(step, format_schedule(choices))

    def notes(self) -> Iterator[str]:
        """A sentence on the first such read, if there is one."""
        if self._first is not None:
            yield self._first


def leaves_rows_out(step: Step) -> bool:
    """Whether it is a plain read that may have been cut off by LIMIT."""
    limit = LIMIT.search(step.shown)
    return (
        limit is not None
        and step.kind is Kind.READ
        and "ORDER BY" in step.shown.upper()
        and not step.touch.is_unknown
        and step.wait is None
        and step.error is None
        and step.rows == int(limit[1])
    )


def sees_what_all_see(step: Step, events: Iterable[Event]) -> bool:
    """Whether its session has written nothing that others can't see yet, and set nothing."""
    has_written = False
    for each in (event.step for event in events if event.step.session == step.session):
        if SETTING.match(each.sql):  # another search path, or an older snapshot
            return False
        if each.kind in (Kind.COMMIT, Kind.ROLLBACK):
            has_written = False
        elif each.kind in (Kind.WRITE, Kind.OTHER):
            has_written |= not each.is_autocommit
    return not has_written


def in_words(step: Step, so_far: str) -> str:
    return (
        f"{step.session} could have got other rows (after {so_far}) by "
        f"“{shortened(step.shown, 300)}”: they are equal by its ORDER BY. PostgreSQL then gives "
        "any of them first. So a schedule may end in another way when it is performed again, and "
        "another exploration may find another number of broken ones."
    )
