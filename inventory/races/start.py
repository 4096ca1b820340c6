"""Sees that setup() brings the database back to the same state before every schedule.

A row that the sessions inserted, or a flag that they set, stays for the next schedule, if setup()
doesn't take it back. Then only the first schedule begins where the caller believes that all begin.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection

from .errors import Misuse
from .repeats import shortened
from .serial import Contents, Learned, Rows, Snapshots, column, differing
from .server import Server

FEW_ROWS = 1_000  # in a table that is kept until it is known which tables are written
LONGEST_LOOK = 1.1  # seconds for setup() to show which values it makes anew: a clock ticks in them


class Start:
    """The rows with which schedules begin."""

    def __init__(
        self, setup: Callable[[], object], server: Server, snapshots: Snapshots, learned: Learned
    ) -> None:
        self._setup = setup
        self._server = server
        self._snapshots = snapshots
        self._learned = learned
        self._first: Rows | None = None
        """The rows of all tables when the first schedule began."""
        self._logged: dict[str, Contents] = {}
        """The rows of logs when this schedule began."""

    def look(self) -> None:
        """Look at the tables that sessions write. Call this just after setup().

        Raises Misuse if the first schedule began with other rows than this one.
        """
        if self._first is None:
            self._first = self._snapshots.rows(self._server.readable_tables(), FEW_ROWS)
        new = self._learned.tables - self._learned.start.keys()
        first = self._snapshots.contents_among(self._first, new)
        now = self._snapshots.contents_of_small(new)
        for table in sorted(new):
            self._learned.start[table] = now.get(table, ())
            if table in first and table in now and first[table] != now[table]:
                if self._is_log(table, first[table], now[table]):
                    self._learned.logs.add(table)
                    self._learned.start[table] = ()
                else:
                    self._check_made_anew(table, first[table], now[table])
        self._logged = self._snapshots.contents_of_small(self._learned.logs)
        for table in sorted(self._learned.logs):
            if len(self._logged.get(table, ())) > FEW_ROWS or table not in self._logged:
                self._learned.leave_out_log(table)
                self._logged.pop(table, None)
        for table in sorted(self._learned.logs & self._learned.looked_at):
            before = self._snapshots.contents_among(self._first, {table})[table]
            raise not_brought_back(table, before, self._logged[table])

    def rows_of_schedule(self, tables: dict[str, Contents]) -> dict[str, Contents]:
        """The rows without those that earlier schedules have left in logs."""
        return tables | {
            table: tuple(sorted((Counter(tables[table]) - Counter(logged)).elements()))
            for table, logged in self._logged.items()
        }

    def _is_log(self, table: str, first: Contents, now: Contents) -> bool:
        """Whether sessions only add rows, so that those of earlier schedules make no difference.

        A table that is first written when ends were kept already must have begun empty.
        """
        has_only_more = not Counter(first) - Counter(now)
        is_in_time = not first or not self._learned.upper_bound
        return has_only_more and is_in_time and table not in self._learned.looked_at

    def _check_made_anew(self, table: str, first: Contents, now: Contents) -> None:
        """Raise Misuse unless setup() by itself makes other values each time."""
        made_anew: set[str] = set()
        has_changed = False
        deadline = time.monotonic() + LONGEST_LOOK
        while len(first) == len(now) and time.monotonic() < deadline:
            self._setup()
            again = self._snapshots.contents({table})[table]
            if len(again) != len(now):
                break
            made_anew |= differing(now, again)
            has_changed |= again != now
            if has_changed and differing(first, now) <= made_anew:
                return
        raise not_brought_back(table, first, now, made_anew)


def not_brought_back(
    table: str, first: Contents, now: Contents, made_anew: Collection[str] = ()
) -> Misuse:
    return Misuse(
        "setup() must bring the database back to the same state before every schedule. "
        f"{difference_in_words(table, first, now, made_anew)} Let setup() take back what the "
        "sessions leave."
    )


def difference_in_words(
    table: str, first: Contents, now: Contents, made_anew: Collection[str]
) -> str:
    """A sentence on one difference between the rows of a table, then and now."""
    then = "when the first schedule began"
    if len(first) != len(now):
        rows = f"{len(first)} row{'' if len(first) == 1 else 's'}"
        return f"The table {table} had {rows} {then}, and {len(now)} when a later one did."
    for path in sorted(differing(first, now) - set(made_anew)):
        was, is_ = (shortened(", ".join(column(path, rows)), 60) for rows in (first, now))
        return f"The column {table}.{path} was {was} {then}, and {is_} when a later one did."
    return f"The table {table} had other rows {then} than when a later one did."
