"""Compares the end of a schedule with the ends of all serial orders of its sessions.

If none is like it, the sessions got in each other's way. Two ends are alike if every session
returned or raised the same, and all rows of the tables that a session wrote are the same. Values
that differ from run to run don't count: keys made by the database, instants and UUIDs, by their
type, and all else that differs between two performances of the same schedule, such as random
tokens. A foreign key counts as the row that it refers to.

Chance can show late, as in a token that only the loser of a race makes. So ends are kept whole,
and are made comparable by what is known at the time.
"""

from __future__ import annotations

import itertools
import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from importlib import import_module
from typing import Any

from django.conf import settings
from django.db.models import Model

from .conductor import Performance
from .errors import Misuse, Unrepeatable
from .server import Server, Table
from .session import Step, sqlstate_of
from .statements import Kind, sets_isolation
from .touch import Extent, united

MADE_ANEW = {"timestamptz", "timestamp", "time", "timetz", "uuid"}
NUMBERED = {"int2", "int4", "int8", "uuid"}
MOST_ROWS = 10_000
PLAIN_INSERT = re.compile(r'INSERT INTO "(\w+)" \([^()]*\) VALUES (?!.* ON CONFLICT)', re.S)
FEW = 2  # odd ends, for each of which the serial orders are performed again
SERIALIZATION_FAILURE, DEADLOCK = "40001", "40P01"

State = tuple[object, ...]
Rows = dict[str, list[dict[str, Any]]]
Content = tuple[tuple[str, str], ...]
"""A row, without what differs by its type: paths and values.

A path is a column, or leads through foreign keys: ``mug_id.sku``.
"""
Contents = tuple[Content, ...]


@dataclass(frozen=True)
class Outcome:
    """The end of a schedule, made comparable."""

    results: tuple[tuple[str, str], ...]
    state: State


@dataclass(frozen=True)
class Ending:
    """The end of a schedule, whole."""

    results: dict[str, str] = field(default_factory=dict)
    """The result or exception of each session, in a word."""
    types: dict[str, str] = field(default_factory=dict)
    """The types of these."""
    tables: dict[str, Contents] = field(default_factory=dict)
    """The rows of the tables that were compared at the time."""
    own_state: str | None = None
    """The value that the caller's ``state`` returned, if there is one."""


@dataclass
class Learned:
    """Facts that serial orders have shown, kept so that they are found out once."""

    upper_bound: int = 0
    """The number of schedules if no session ever had to wait; 0: nothing was learned yet."""
    tables: set[str] = field(default_factory=set)
    """The tables that sessions write, and that are compared."""
    looked_at: set[str] = field(default_factory=set)
    """Tables with which sessions do more than to add rows."""
    logs: set[str] = field(default_factory=set)
    """Other tables, in which setup() leaves the rows: only those of one schedule are compared."""
    long_logs: set[str] = field(default_factory=set)
    """Logs that became too long to be compared."""
    left_out: set[str] = field(default_factory=set)
    """Tables that sessions write, and that are never compared."""
    start: dict[str, Contents] = field(default_factory=dict)
    """Their rows when a schedule begins."""
    noise: set[tuple[str, str]] = field(default_factory=set)
    """Table and path of values that differ between two performances of the same schedule."""
    writes: dict[str, Extent] = field(default_factory=dict)
    """The rows that each session writes, by its name."""
    asks_for_snapshot: bool = False
    """Whether a session sets another isolation level than READ COMMITTED."""
    by_type: set[str] = field(default_factory=set)
    """Sessions whose results differ so; the results are compared by type."""
    serial: dict[frozenset[str], list[Ending]] = field(default_factory=dict)
    """The ends of all serial orders of these sessions."""
    odd: list[Ending] = field(default_factory=list)
    """Ends like those of no serial order, one of each kind."""

    @property
    def size(self) -> tuple[int, ...]:
        """The number of facts that outcomes depend on: when it changes, they are made anew."""
        return len(self.tables), len(self.noise), len(self.by_type)

    def leave_out_log(self, table: str) -> None:
        """Compare this log no more."""
        self.logs.discard(table)
        self.tables.discard(table)
        self.long_logs.add(table)

    def note_written(self, performance: Performance) -> None:
        """Compare the tables, too, that are written in this performance."""
        for event in performance.events:
            self.looked_at |= event.step.tables - added_to(event.step)
        never = session_tables()
        self.tables |= tables_written(performance) - never - self.long_logs
        texts = [event.step.sql for event in performance.events if event.step.kind is Kind.WRITE]
        self.left_out |= {table for table in never if any(table in text for text in texts)}

    def note_steps(self, steps: Iterable[Step]) -> None:
        """Learn from the steps of a serial order."""
        for step in steps:
            self.asks_for_snapshot |= sets_isolation(step.sql)
            if step.kind is Kind.WRITE:
                known = self.writes.get(step.session, {})
                self.writes[step.session] = united(known, step.touch.changes)

    def outcome_of(self, ending: Ending, names: Collection[str] | None = None) -> Outcome:
        """The end made comparable, with the results of the sessions ``names`` (all: None)."""
        results = tuple(
            (name, ending.types[name] if name in self.by_type else result)
            for name, result in ending.results.items()
            if names is None or name in names
        )
        if ending.own_state is not None:
            return Outcome(results, (ending.own_state,))
        return Outcome(
            results, tuple((table, self._alike(table, ending)) for table in sorted(self.tables))
        )

    def learn_noise(self, one: Ending, other: Ending) -> None:
        """Learn from two performances of the same schedule: a difference is chance, or the clock.

        Raises Unrepeatable if they differ by more than values.
        """
        self.by_type.update(n for n in one.results if one.results[n] != other.results.get(n))
        if one.own_state is not None:
            check_own_state(one, other)
            return
        for table in sorted(self.tables):
            before, now = self._contents(table, one), self._contents(table, other)
            if len(before) != len(now):
                raise Unrepeatable(
                    f"After two performances of the same schedule the table {table} had "
                    f"{len(before)} and {len(now)} rows."
                )
            self.noise |= {(table, path) for path in differing(before, now)}
            self._learn_mixing(table, one, other)

    def _learn_mixing(self, table: str, one: Ending, other: Ending) -> None:
        """Learn from the same values in other rows: chance has mixed them, as when it shuffles."""
        known = self.noise
        varied = {(table, path) for path in varying(self._contents(table, one))}
        for more in [set(), *({each} for each in sorted(varied)), varied]:
            self.noise = known | more
            if self._alike(table, one) == self._alike(table, other):
                return

    def _contents(self, table: str, ending: Ending) -> Contents:
        """The rows of a table. One that wasn't compared then was written by no session."""
        return ending.tables.get(table, self.start.get(table, ()))

    def _alike(self, table: str, ending: Ending) -> tuple[Content, ...]:
        """The rows of a table without noise, in the same order for the same rows."""
        return tuple(
            sorted(
                tuple(cell for cell in content if (table, cell[0]) not in self.noise)
                for content in self._contents(table, ending)
            )
        )


def check_own_state(one: Ending, other: Ending) -> None:
    if one.own_state != other.own_state:
        raise Unrepeatable(
            "state() differs between two performances of the same schedule:\n"
            f"  it was {one.own_state}\n"
            f"  it is  {other.own_state}\n"
            "Keys, instants and random values have no place in it."
        )


def differing(before: Contents, now: Contents) -> set[str]:
    """The paths whose values differ, in whatever rows they are."""
    return {
        path for path in paths(before) | paths(now) if column(path, before) != column(path, now)
    }


def varying(contents: Contents) -> set[str]:
    """The paths that don't have the same value in all rows."""
    return {path for path in paths(contents) if len(set(column(path, contents))) > 1}


def paths(contents: Contents) -> set[str]:
    return {path for content in contents for path, _ in content}


def column(path: str, contents: Contents) -> list[str]:
    """The values at a path, sorted; rows that have none count, too."""
    return sorted(dict(content).get(path, "") for content in contents)


class Snapshots:
    """The committed rows of some tables, without what differs by its type."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._kept: dict[Any, Any] = {}
        """One of each content: most schedules end alike."""

    def contents(self, tables: set[str]) -> dict[str, Contents]:
        """All rows of these tables. Raises Misuse if there are too many."""
        contents = self.contents_of_small(tables)
        for table in sorted(tables - contents.keys()):
            raise Misuse(
                f"The table {table}, or one that it refers to, has more than {MOST_ROWS} rows, too "
                "many to compare after each schedule, or somebody else has locked it. Say what to "
                "compare with explore(state=…)."
            )
        return contents

    def contents_of_small(self, tables: Collection[str]) -> dict[str, Contents]:
        """All rows of those of these tables that don't have too many."""
        return self.contents_among(self.rows(self._with_parents(tables), MOST_ROWS), tables)

    def rows(self, tables: Iterable[str], most: int) -> Rows:
        """The rows of those tables that have no more than ``most``."""
        rows = {table: self._server.rows(table, most) for table in tables}
        return {table: found for table, found in rows.items() if found is not None}

    def contents_among(self, rows: Rows, tables: Collection[str]) -> dict[str, Contents]:
        """The contents of these tables, as far as ``rows`` has them and what they refer to."""
        by_key = {
            table: {row[key]: row for row in rows[table]}
            for table in rows
            for key in self._server.tables[table].primary_key[:1]
        }
        return {
            table: self._keep(
                tuple(
                    sorted(
                        self._keep(tuple(self._cells(table, row, by_key, 3))) for row in rows[table]
                    )
                )
            )
            for table in tables
            if self._with_parents([table]) <= rows.keys()
        }

    def _with_parents(self, tables: Iterable[str]) -> set[str]:
        """These tables, and all to which they refer, directly or not."""
        wanted, found = set(tables), set[str]()
        while wanted:
            table = wanted.pop()
            found.add(table)
            wanted |= set(self._server.tables[table].parents.values()) - found
        return found

    def _cells(
        self, table: str, row: dict[str, Any], by_key: dict[str, dict[Any, Any]], depth: int
    ) -> Iterator[tuple[str, str]]:
        known = self._server.tables[table]
        for name, type_name in known.columns.items():
            parent = known.parents.get(name)
            if parent is not None:
                referred = by_key.get(parent, {}).get(row[name])
                if referred is not None and depth:
                    yield name, "a row"
                    for path, value in self._cells(parent, referred, by_key, depth - 1):
                        yield f"{name}.{path}", value
            elif not (
                type_name in MADE_ANEW or (name in known.primary_key and type_name in NUMBERED)
            ):
                yield name, str(row[name])

    def _keep(self, content: Any) -> Any:
        return self._kept.setdefault(content, content)


class SerialOrders:
    """The outcomes of serial orders, of all sessions or some, each performed when needed."""

    def __init__(
        self,
        learned: Learned,
        learned_ending_of: Callable[[tuple[str, ...]], Ending],
        ending_of: Callable[[tuple[str, ...]], Ending],
    ) -> None:
        self._learned = learned
        self._learned_ending_of = learned_ending_of
        """Performs an order more than once, and learns what differs."""
        self._ending_of = ending_of
        self._outcomes: dict[tuple[frozenset[str] | None, tuple[int, ...]], set[Outcome]] = {}
        self._renewed_at: dict[frozenset[str], float] = {}

    def include(self, ending: Ending, undone: Collection[str]) -> bool:
        """Whether the end is that of a serial order.

        ``undone`` are the sessions that PostgreSQL refused for the sake of the others (deadlock,
        serialization failure): they count as if they had never run.
        """
        names = frozenset(ending.results) - set(undone)
        if names not in self._learned.serial:
            self._learned.serial[names] = [
                self._learned_ending_of(order) for order in orders_of(names)
            ]
        return self._learned.outcome_of(ending, names) in self._outcomes_of(names)

    def renew(self, ending: Ending, undone: Collection[str]) -> None:
        """Perform the serial orders once more: what differs from before is chance, or the clock.

        A clock that ticks each second may have ticked since. Once a second is often enough.
        """
        names = frozenset(ending.results) - set(undone)
        if time.monotonic() < self._renewed_at.get(names, 0) + 1 and len(self._learned.odd) > FEW:
            return
        before = self._learned.serial[names]
        self._learned.serial[names] = [self._ending_of(order) for order in orders_of(names)]
        for old, new in zip(before, self._learned.serial[names], strict=True):
            self._learned.learn_noise(old, new)
        self._outcomes.clear()
        self._renewed_at[names] = time.monotonic()

    def is_odd(self, ending: Ending) -> bool:
        """Whether an end like this one was found to be like no serial order, more than once."""
        return self._learned.outcome_of(ending) in self._outcomes_of(None)

    def add_odd(self, ending: Ending) -> None:
        if not self.is_odd(ending):
            self._learned.odd.append(ending)
            self._outcomes.clear()

    def _outcomes_of(self, names: frozenset[str] | None) -> set[Outcome]:
        """The outcomes of the serial orders of these sessions; None: the odd ones."""
        key = names, self._learned.size
        if key not in self._outcomes:
            endings = self._learned.odd if names is None else self._learned.serial[names]
            self._outcomes[key] = {self._learned.outcome_of(each, names) for each in endings}
        return self._outcomes[key]


def orders_of(names: Iterable[str]) -> Iterator[tuple[str, ...]]:
    return itertools.permutations(sorted(names))


def difference(was: Outcome, is_: Outcome) -> str:
    """The rows in which two outcomes differ, as lines; or else the callers' own states."""
    if all(isinstance(part, str) for part in was.state + is_.state):
        return f"  it was {was.state[0]}\n  it is  {is_.state[0]}"
    tables: dict[str, Contents] = dict(was.state)  # type: ignore[arg-type]
    tables_now: dict[str, Contents] = dict(is_.state)  # type: ignore[arg-type]
    lines = []
    for table in sorted(tables.keys() | tables_now.keys()):
        rows, rows_now = Counter(tables.get(table, ())), Counter(tables_now.get(table, ()))
        if rows != rows_now:
            lines.append(f"  {table} was: {rows_in_words(rows - rows_now)}")
            lines.append(f"  {table} is:  {rows_in_words(rows_now - rows)}")
    return "\n".join(lines)


def rows_in_words(rows: Iterable[Content]) -> str:
    texts = [", ".join(f"{path}={value}" for path, value in row) for row in rows]
    return "; ".join(texts) or "without that row"


def notes_on(learned: Learned, known: Mapping[str, Table]) -> Iterator[str]:
    """Sentences on all that isn't compared with serial orders. ``known``: tables by name."""
    if learned.left_out:
        tables = ", ".join(sorted(learned.left_out))
        yield f"Not compared, since its rows are random keys and signed times: {tables}."
    if learned.long_logs:
        tables = ", ".join(sorted(learned.long_logs))
        yield f"Not compared, since setup() leaves more and more rows there: {tables}."
    if learned.noise:
        found = {column_at(table, path, known) for table, path in learned.noise}
        columns = ", ".join(sorted(found))
        yield f"Not compared, since two performances of one schedule differ there: {columns}."
    if learned.by_type:
        names = " and ".join(sorted(learned.by_type))
        yield (
            f"Compared by type alone, since two performances of one schedule differ there: what "
            f"{names} returned or raised."
        )


def column_at(table: str, path: str, known: Mapping[str, Table]) -> str:
    """The column to which a path through foreign keys leads, with its own table."""
    first, _, rest = path.partition(".")
    parent = known[table].parents.get(first) if table in known else None
    return column_at(parent, rest, known) if parent is not None and rest else f"{table}.{path}"


def tables_written(performance: Performance) -> set[str]:
    return {
        table
        for event in performance.events
        if event.step.kind in (Kind.WRITE, Kind.OTHER)
        for table in event.step.tables
    }


def added_to(step: Step) -> set[str]:
    """The table of a plain INSERT, which adds rows and looks at none."""
    found = PLAIN_INSERT.match(step.sql)
    return {found[1]} if found and "SELECT" not in step.sql.upper() else set()


def session_tables() -> set[str]:
    """The table of django.contrib.sessions, if it is used.

    Its rows can't be compared: their keys are random, and they are signed with the time. A row
    that an earlier schedule left does no harm, since nobody has its key.
    """
    store = import_module(settings.SESSION_ENGINE).SessionStore
    try:
        return {store.get_model_class()._meta.db_table}
    except (AttributeError, ImportError, RuntimeError):  # the engine has none, or isn't installed
        return set()


def undone(performance: Performance) -> set[str]:
    """The sessions that PostgreSQL ended for the sake of others."""
    return {
        name
        for name, error in performance.raised.items()
        if sqlstate_of(error) in (SERIALIZATION_FAILURE, DEADLOCK)
    }


def results_of(performance: Performance, by_type: Collection[str] = ()) -> dict[str, str]:
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
    if isinstance(value, list | tuple):
        return f"[{', '.join(described(item) for item in value)}]"
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(described(item) for item in value))}}}"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{described(k)}: {described(v)}' for k, v in value.items())}}}"
    if value is None or isinstance(value, bool | int | float | str | Decimal):
        return repr(value)
    status = getattr(value, "status_code", None)
    return type(value).__name__ if status is None else f"{type(value).__name__} {status}"


def described_error(error: BaseException) -> str:
    code = sqlstate_of(error)
    if code is not None:
        return f"{type(error).__name__} {code}"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
