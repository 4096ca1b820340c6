"""Compares the end of a schedule with the ends of all serial orders of its sessions.

If none is like it, the sessions got in each other's way. Two ends are alike if every session
returned or raised the same, and all rows of the tables that a session wrote are the same. Values
that differ from run to run don't count: keys made by the database, instants and UUIDs, by their
type, and all else that differs between two runs of the same serial order, such as random tokens.
A foreign key counts as the row that it refers to.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from django.db.models import Model

from .conductor import Performance
from .errors import Misuse
from .server import Server
from .session import Step, sqlstate_of
from .statements import Kind, sets_isolation
from .touch import Extent, united

MADE_ANEW = {"timestamptz", "timestamp", "time", "timetz", "uuid"}
NUMBERED = {"int2", "int4", "int8", "uuid"}
MOST_ROWS = 10_000
SERIALIZATION_FAILURE, DEADLOCK = "40001", "40P01"

State = tuple[object, ...]
Rows = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Outcome:
    """The end of a schedule, made comparable."""

    results: tuple[tuple[str, str], ...]
    state: State


@dataclass
class Learned:
    """Facts that serial orders have shown, kept so that they are found out once."""

    upper_bound: int = 0
    """About the number of schedules if no session ever had to wait; 0: nothing was learned yet."""
    tables: set[str] = field(default_factory=set)
    """The tables that sessions write, and that are compared."""
    noise: set[tuple[str, str]] = field(default_factory=set)
    """Columns that differ between two runs of the same serial order."""
    writes: dict[str, Extent] = field(default_factory=dict)
    """The rows that each session writes, by its name."""
    by_type: set[str] = field(default_factory=set)
    """Sessions whose results differ; the results are compared by type."""
    asks_for_snapshot: bool = False
    """Whether a session sets another isolation level than READ COMMITTED."""

    def note_steps(self, steps: Iterable[Step]) -> None:
        """Learn from the steps of a serial order."""
        for step in steps:
            self.asks_for_snapshot |= sets_isolation(step.sql)
            if step.kind is Kind.WRITE:
                known = self.writes.get(step.session, {})
                self.writes[step.session] = united(known, step.touch.changes)


class Snapshots:
    """The committed rows of some tables, made comparable."""

    def __init__(self, server: Server, learned: Learned) -> None:
        self._server = server
        self.tables = learned.tables
        self._noise = learned.noise

    def rows(self) -> Rows:
        """All rows of these tables, and of the tables that they refer to."""
        wanted, rows = set(self.tables), {}
        while wanted:
            table = wanted.pop()
            rows[table] = self._server.rows(table)
            if len(rows[table]) > MOST_ROWS:
                raise Misuse(
                    f"The table {table} has more than {MOST_ROWS} rows, too many to compare after "
                    "each schedule. Say what to compare with explore(state=…)."
                )
            wanted |= set(self._server.tables[table].parents.values()) - rows.keys()
        return rows

    def learn_noise(self, one: Rows, other: Rows) -> None:
        """Learn from two runs of the same serial order: a difference is chance, or the clock."""
        for table in one.keys() & other.keys():
            for column in self._server.tables[table].columns:
                values = [sorted(str(row[column]) for row in rows[table]) for rows in (one, other)]
                if values[0] != values[1]:
                    self._noise.add((table, column))

    def state(self, rows: Rows) -> State:
        by_key = {
            table: {row[key]: row for row in rows[table]}
            for table in rows
            for key in self._server.tables[table].primary_key[:1]
        }
        return tuple(
            (table, tuple(sorted(self._content(table, row, by_key, 3) for row in rows[table])))
            for table in sorted(self.tables)
        )

    def _content(
        self, table: str, row: dict[str, Any], by_key: dict[str, dict[Any, Any]], depth: int
    ) -> str:
        known = self._server.tables[table]
        parts = []
        for column, type_name in known.columns.items():
            parent = known.parents.get(column)
            if parent is not None:
                referred = by_key.get(parent, {}).get(row[column])
                if referred is not None and depth:
                    content = self._content(parent, referred, by_key, depth - 1)
                    parts.append(f"{column}=({content})")
            elif not (
                type_name in MADE_ANEW
                or (column in known.primary_key and type_name in NUMBERED)
                or (table, column) in self._noise
            ):
                parts.append(f"{column}={row[column]}")
        return ", ".join(parts)


class SerialOrders:
    """The outcomes of serial orders, of all sessions or some, each performed when needed."""

    def __init__(self, outcome_of: Callable[[tuple[str, ...]], Outcome]) -> None:
        self._outcome_of = outcome_of
        self._outcomes: dict[frozenset[str], set[Outcome]] = {}

    def clear(self) -> None:
        """Drop the outcomes: they lack the tables that are compared from now on."""
        self._outcomes.clear()

    def include(self, outcome: Outcome, undone: Collection[str]) -> bool:
        """Whether the outcome is that of a serial order.

        ``undone`` are the sessions that PostgreSQL refused for the sake of the others (deadlock,
        serialization failure): they count as if they had never run.
        """
        names = frozenset(name for name, _ in outcome.results) - set(undone)
        if names not in self._outcomes:
            orders = itertools.permutations(sorted(names))
            self._outcomes[names] = {self._outcome_of(order) for order in orders}
        results = tuple(each for each in outcome.results if each[0] in names)
        return Outcome(results, outcome.state) in self._outcomes[names]


def tables_written(performance: Performance) -> set[str]:
    return {
        table
        for event in performance.events
        if event.step.kind is Kind.WRITE
        for table in event.step.tables
    }


def undone(performance: Performance) -> set[str]:
    """The sessions that PostgreSQL ended for the sake of others."""
    return {
        name
        for name, error in performance.raised.items()
        if sqlstate_of(error) in (SERIALIZATION_FAILURE, DEADLOCK)
    }


def results_of(performance: Performance, by_type: Iterable[str] = ()) -> dict[str, str]:
    """The result or exception of each session, in a word; for ``by_type``, its type alone."""
    results = {}
    for name, value in performance.returned.items():
        results[name] = type(value).__name__ if name in by_type else described(value)
    for name, error in performance.raised.items():
        results[name] = type(error).__name__ if name in by_type else described_error(error)
    return dict(sorted(results.items()))


def described(value: object) -> str:
    if isinstance(value, Model):
        return type(value).__name__
    if isinstance(value, list | tuple | set):
        return f"[{', '.join(described(item) for item in value)}]"
    if value is None or isinstance(value, bool | int | float | str | Decimal):
        return repr(value)
    status = getattr(value, "status_code", None)
    return type(value).__name__ if status is None else f"{type(value).__name__} {status}"


def described_error(error: BaseException) -> str:
    code = sqlstate_of(error)
    if code is not None:
        return f"{type(error).__name__} {code}"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
