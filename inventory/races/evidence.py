"""The rows that the steps of a run have read and changed, as far as their text tells.

Two steps met only if they concern the same row: by its primary key, or by a condition that the row
is known to meet. Where that isn't known, the answer is None.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from .conditions import NULL, UNKNOWN, Value, is_equal, is_met, value_of
from .parts import Parts, equalities_of, key_of, parts_of
from .result import Run
from .session import Step
from .statements import Kind
from .tokens import Token, tokens_of

EMPTY: Mapping[str, str] = {}


@dataclass(frozen=True)
class Row:
    """A row of a table, as a session has seen it."""

    table: str
    values: Mapping[str, str]
    """Column → value, as text."""

    def changed_by(self, change: Step, *, is_certain: bool = True) -> Row | None:
        """The row after the change, without the columns whose values aren't known then."""
        values, names = dict(self.values), names_of(change)
        for column, expression in parts_of(change.shown).assigned:
            value = value_of(expression, self.values, names) if is_certain else UNKNOWN
            values.pop(column, None)
            if value is not UNKNOWN:
                values[column] = as_text(value)
        return None if parts_of(change.shown).verb == "DELETE" else replace(self, values=values)


def rows_read(step: Step) -> list[Row]:
    """The rows that a SELECT returned, of each table whose columns its text tells apart."""
    parts = parts_of(step.shown)
    found = []
    for table, names in parts.sources.items():
        if len(names) > 1:
            continue  # joined with itself
        is_alone = len(parts.sources) == 1
        fixed = single_values(parts.condition) if is_alone else {}
        for returned in step.values:
            values = fixed | columns_of(returned, parts, None if is_alone else names)
            if values and not is_outer(step, table, values):
                found.append(Row(table, values))
    return found


def columns_of(
    returned: Mapping[str, str], parts: Parts, names: frozenset[str] | None
) -> dict[str, str]:
    """The values that are columns of the table with these names; None: of the only table."""
    if parts.selected is None:
        return dict(returned) if names is None else {}
    return {
        parts.selected[name][1]: value
        for name, value in returned.items()
        if name in parts.selected
        and parts.selected[name][1]
        and (names is None or parts.selected[name][0] in names)
    }


def is_outer(step: Step, table: str, values: Mapping[str, str]) -> bool:
    """Whether an outer join found no row of this table."""
    key = step.primary_keys.get(table)
    return key is not None and values.get(key.column) == NULL


def single_values(condition: tuple[Token, ...]) -> dict[str, str]:
    """The columns that have one value only, in all rows that meet the condition."""
    return {column: values[0] for column, values in equalities_of(condition) if len(values) == 1}


def touches(change: Step, row: Row) -> bool | None:
    """Whether the change was one of this row; None where that isn't known."""
    parts = parts_of(change.shown)
    if not change.changes:
        return False
    if parts.verb == "INSERT":
        if not parts.assigned or parts.table != row.table:
            return False
        return is_among(row, [Row(row.table, each) for each in rows_added(change)], change) or None
    if parts.verb not in ("UPDATE", "DELETE"):
        return None if row.table in change.tables else False
    if parts.table != row.table:
        return False
    key = change.primary_keys.get(row.table)
    if key is not None and change.rows == len(change.values) and not parts.is_inner:
        changed = {key_of(returned.get(key.column), key.type_name) for returned in change.values}
        mine = key_of(row.values.get(key.column), key.type_name)
        if mine is not None and None not in changed:
            return mine in changed
    return is_met(parts.condition, row.values, names_of(change))


def names_of(change: Step) -> set[str | None]:
    """The names before a column by which a write means its own table; None: without a name."""
    parts = parts_of(change.shown)
    return {None, parts.table, *parts.sources.get(parts.table, ())}


def rows_added(step: Step) -> list[Mapping[str, str]]:
    """The rows that an INSERT added, each with the columns whose values are known."""
    added = [
        {column: as_text(value) for column, value in values if value is not UNKNOWN}
        for values in (
            [(column, value_of(expression, EMPTY)) for column, expression in row.items()]
            for row in parts_of(step.shown).inserted
        )
    ]
    if len(added) == len(step.values):
        return [{**returned, **row} for row, returned in zip(added, step.values, strict=True)]
    return list(added)


def as_text(value: Value) -> str:
    """A value as PostgreSQL shows it."""
    if value is None:
        return NULL
    return "ft"[value] if isinstance(value, bool) else str(value)


class Timeline:
    """The lines of the transcript at which steps took effect and became visible."""

    def __init__(self, run: Run) -> None:
        self.steps = run.steps
        self._effect: dict[int, int] = {}
        self._waited = set()
        for place, event in enumerate(run.events):
            self._effect[event.step.number] = place  # a completion, where there is one
            if event.is_completion:
                self._waited.add(event.step.number)
        self._by_effect = sorted(self.steps, key=self.at)
        self._steps_of: dict[str, list[Step]] = {}
        for step in self.steps:
            self._steps_of.setdefault(step.session, []).append(step)
        self._ends: dict[int, Step | None] = {}

    def label(self, step: Step) -> str:
        return f"{step.number}'" if step.number in self._waited else str(step.number)

    def at(self, step: Step) -> int:
        return self._effect[step.number]

    def reads_of(self, session: str) -> list[Step]:
        """Its reads, newest first."""
        return [
            step
            for step in reversed(self.steps)
            if step.session == session
            and step.kind in (Kind.READ, Kind.LOCK)
            and step.error is None
        ]

    def end_of(self, write: Step) -> Step | None:
        """The COMMIT that makes a write visible; in autocommit the write itself; else None."""
        if write.number not in self._ends:
            self._ends[write.number] = self._find_end(write)
        return self._ends[write.number]

    def _find_end(self, write: Step) -> Step | None:
        if write.is_autocommit:
            return write
        if self.is_undone(write):
            return None
        for step in self._steps_of[write.session]:
            if step.number > write.number:
                if step.kind is Kind.COMMIT and step.error is None:
                    return step
                if step.kind is Kind.ROLLBACK:
                    return None
        return None

    def is_undone(self, write: Step) -> bool:
        """Whether the session has rolled back to a savepoint that it had set before the write."""
        savepoints: set[str] = set()
        for step in self._steps_of[write.session]:
            words = [token.name for token in tokens_of(step.sql)]
            if words[:1] == ["savepoint"] and step.number < write.number:
                savepoints.add(words[-1])
            elif words[:1] == ["savepoint"]:
                savepoints.discard(words[-1])  # another one of the same name
            elif words[:1] == ["release"] and step.number < write.number:
                savepoints.discard(words[-1])
            elif words[:2] == ["rollback", "to"] and step.number > write.number:
                if words[-1] in savepoints:
                    return True
            elif step.kind in (Kind.COMMIT, Kind.ROLLBACK):
                if step.number > write.number:
                    return False
                savepoints.clear()
        return False

    def has_given_up(self, read: Step, write: Step) -> bool:
        """Whether the transaction of the read was rolled back before the write: a new try."""
        return not read.is_autocommit and any(
            step.session == read.session
            and step.kind is Kind.ROLLBACK
            and read.number < step.number < write.number
            for step in self.steps
        )

    def changes_after(self, read: Step) -> Iterator[tuple[Step, Step]]:
        """Changes of other sessions that became visible after the read: (change, its end)."""
        for change in self.steps:
            if change.session != read.session and change.changes:
                end = self.end_of(change)
                if end is not None and self.at(read) < self.at(end):
                    yield change, end

    def row_before(self, step: Step, row: Row, read: Step) -> Row | None:
        """The row just before the step, by all that is known since it was read."""
        current: Row | None = row
        for change in self._by_effect:
            if current is None or not self.at(read) < self.at(change) < self.at(step):
                continue
            if change.changes and self.end_of(change) is not None:
                met = touches(change, current)
                if met is not False:
                    current = current.changed_by(change, is_certain=met is True)
        return current

    def has_changed(self, row: Row, read: Step, until: Step) -> bool:
        """Whether the reader itself may have changed the row since then, until that step."""
        return any(
            step.session == read.session
            and self.at(read) < self.at(step) < self.at(until)
            and step.kind is Kind.WRITE
            and touches(step, row) is not False
            for step in self.steps
        )

    def has_read_again(self, read: Step, row: Row | None, end: Step, write: Step) -> bool:
        """Whether the session looked once more, after the change was visible, before it wrote."""
        again = [
            step
            for step in self.reads_of(write.session)
            if self.at(end) < self.at(step) < self.at(write)
        ]
        return any(
            asks_the_same(step, read)
            or (row is not None and any(is_same(row, other, step) for other in rows_read(step)))
            for step in again
        )


def asks_the_same(one: Step, other: Step) -> bool:
    """Whether two reads look for the same rows: in the same tables, by the same condition."""
    first, second = parts_of(one.shown), parts_of(other.shown)
    texts = [[token.text for token in parts.condition] for parts in (first, second)]
    return first.sources.keys() == second.sources.keys() and texts[0] == texts[1]


def is_among(row: Row, others: Iterable[Row], step: Step) -> bool:
    """Whether a row is one of others, by primary key."""
    return any(is_same(row, other, step) for other in others)


def is_same(one: Row, other: Row, step: Step) -> bool:
    """Whether two rows are one, by primary key."""
    key = step.primary_keys.get(one.table)
    if one.table != other.table or key is None:
        return False
    keys = [key_of(row.values.get(key.column), key.type_name) for row in (one, other)]
    return keys[0] is not None and keys[0] == keys[1]


def columns_changed(change: Step, current: Row, row: Row) -> dict[str, Value]:
    """The columns that an UPDATE sets to other values than were read: column → value.

    ``current`` is the row just before the change, ``row`` as it was read.
    """
    values = {
        column: value_of(expression, current.values, names_of(change))
        for column, expression in parts_of(change.shown).assigned
        if column in row.values
    }
    return {
        column: value
        for column, value in values.items()
        if is_equal(value, value_read(row, column)) is not True
        and not (value is None and row.values[column] == NULL)
    }


def value_read(row: Row, column: str) -> Value:
    """The value of a column, or UNKNOWN."""
    text = row.values.get(column)
    return UNKNOWN if text is None else None if text == NULL else text


def would_see(read: Step, change: Step) -> bool | None:
    """Whether the read would have come out differently after the change; None if not known."""
    parts, changing = parts_of(read.shown), parts_of(change.shown)
    table = changing.table
    if table not in parts.sources:
        return None if re.search(rf"\b{re.escape(table)}\b", read.sql) else False
    names: set[str | None] = {*parts.sources[table], *([None] if len(parts.sources) == 1 else [])}
    if changing.verb == "INSERT":
        added = rows_added(change)
        found = [is_met(parts.condition, row, names) for row in added] if added else [None]
    elif changing.verb in ("UPDATE", "DELETE"):
        before: Row | None = Row(table, single_values(changing.condition))
        after = Row(table, single_values(changing.condition)).changed_by(change)
        rows = rows_read(read)
        is_whole = len(parts.sources) == 1 and read.rows == len(rows)
        met = [touches(change, row) for row in rows if row.table == table]
        if not is_of_columns(read, change) or (is_whole and met.count(True) == change.rows):
            return False  # or it changed rows that were read, which are looked at one by one
        if is_whole and None not in met:
            if not may_enter(read, change):
                return False
            before = None  # it was not among the rows read
        found = [is_met(parts.condition, row.values, names) for row in (before, after) if row]
    else:
        return None
    return True if True in found else None if None in found else False


def is_of_columns(read: Step, change: Step) -> bool:
    """Whether the read names a column that the change sets. A DELETE concerns them all."""
    parts, changing = parts_of(read.shown), parts_of(change.shown)
    named = {token.name for token in tokens_of(read.shown)}
    assigned = {column for column, _ in changing.assigned}
    return changing.verb == "DELETE" or parts.selected is None or bool(assigned & named)


def may_enter(read: Step, change: Step) -> bool:
    """Whether the change may let a row meet the read's condition: it sets a column of it."""
    named = {token.name for token in parts_of(read.shown).condition}
    return any(column in named for column, _ in parts_of(change.shown).assigned)
