"""Finds sessions that wrote by what another had changed and committed since they read it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

from .conditions import UNKNOWN, Value, instant_of, is_equal, is_met, value_of
from .evidence import (
    Row,
    Timeline,
    columns_changed,
    is_among,
    rows_added,
    rows_read,
    touches,
    value_read,
    would_see,
)
from .findings import LOST_UPDATE, PHANTOM, STALE_CHECK, UNEXPLAINED, WRITE_SKEW, Finding
from .parts import parts_of
from .result import Run
from .session import Step
from .statements import Kind, in_words
from .tokens import Form, Token, split, without_brackets

STORING = re.compile(r"⋯ cache “(.*?)”: (?:add|set|set_many|get_or_set|incr|decr)\b")
LONGEST_EXPRESSION = 60  # characters
LONGEST_WORD = 30  # a longer one is a token, a signature, or encoded data


class Weight(IntEnum):
    """How much a finding explains; the least number explains most."""

    OVERWRITTEN = 0  # the write sets a column that another has changed
    NOT_FOUND = 1  # it looked for a row by a value that another has changed
    REPEATED = 2  # it writes the same word as the other
    BOTH_ADDED = 3  # both looked for rows, and both added one
    GONE_BY = 4  # it looks for other rows by a value that another has changed
    OTHERWISE = 5  # it sets other columns of the row, or deletes it
    ELSEWHERE = 6  # it is of other rows
    UNSEEN = 7  # the reader did not see rows that another changed
    CACHED = 8  # it stores something in a cache
    AGAIN = 9  # the row was read once more before the write
    MARGINAL = 10  # the column is a date, a time or a token, which nearly every save() sets
    LIKELY = 11  # the change may have been one of what was read
    LOOKED_AGAIN = 12  # the same was asked once more before the write
    HARDLY = 13  # both


class Rank(NamedTuple):
    """The order of findings: the one that explains most comes first."""

    weight: Weight
    line: int
    """Where the change became visible."""
    is_early: bool
    """Whether the write came before that, and was committed after it."""
    is_apart: bool
    """Whether the write is of other rows than the change, though it may be of the same."""
    is_no_insert: bool
    write: int
    read: int


@lru_cache(maxsize=8)
def stale_reads(run: Run) -> tuple[Finding, ...]:
    """The findings that explain most, of sessions that wrote by what was no longer true.

    They go by the steps alone, which don't change any more; a transcript asks for them often.
    """
    timeline = Timeline(run)
    best: dict[str, tuple[Rank, Finding]] = {}
    for rank, finding in sorted(conflicts(timeline), key=lambda pair: pair[0]):
        best.setdefault(finding.steps[0].session, (rank, finding))
    found = list(best.values())
    return tuple(finding for rank, finding in found if rank.weight == found[0][0].weight)


def conflicts(timeline: Timeline) -> Iterator[tuple[Rank, Finding]]:
    for name in dict.fromkeys(step.session for step in timeline.steps):
        writes = [step for step in timeline.steps if step.session == name and is_write(step)]
        for read in timeline.reads_of(name) if writes else ():
            for change, end in timeline.changes_after(read):
                for conflict in conflicts_of(timeline, read, change, end):
                    for write in writes:
                        found = conflict.with_write(write)
                        if found is not None:
                            yield found


def is_write(step: Step) -> bool:
    """Whether the step writes rows, or stores something in a cache."""
    return step.error is None and (step.kind is Kind.WRITE or cache_written(step) is not None)


def cache_written(step: Step) -> str | None:
    """The alias of the cache that the step stores something in, if it does."""
    found = STORING.match(step.sql) if step.kind is Kind.CACHE else None
    return found[1] if found else None


def conflicts_of(timeline: Timeline, read: Step, change: Step, end: Step) -> Iterator[Conflict]:
    """The rows read that the change concerns; or else the whole read, if it missed the change."""
    is_of_row = False
    for row in rows_read(read):
        if row.table != parts_of(change.shown).table:
            continue
        current = timeline.row_before(change, row, read)
        if current is None or touches(change, current) is not True:
            continue
        is_deleted = parts_of(change.shown).verb == "DELETE"
        changed = columns_changed(change, current, row)
        if changed or is_deleted:
            is_of_row = True
            yield ConflictOfRow(timeline, read, change, end, row, changed)
    if not is_of_row:
        is_seen = would_see(read, change)
        if is_seen is not False:
            yield ConflictOfSet(timeline, read, change, end, bool(is_seen))


@dataclass
class Conflict:
    """A read, and a change of another session that the read came too early to see."""

    timeline: Timeline
    read: Step
    change: Step
    end: Step

    def with_write(self, write: Step) -> tuple[Rank, Finding] | None:
        """The finding, if the reader wrote by what was no longer true; else None."""
        at, visible = self.timeline.at, self.timeline.at(self.end)
        mine = self.timeline.end_of(write)
        if at(write) < at(self.read) or self.timeline.has_given_up(self.read, write):
            return None
        if write.kind is Kind.CACHE:
            found = self.stored(write) if visible < at(write) else None
        elif write.rows == 0:
            found = self.missed(write) if visible < at(write) else None
        else:
            found = self.written(write) if mine is not None and visible < at(mine) else None
        if found is None:
            return None
        weight, anomaly, sentence = found
        is_insert = parts_of(write.shown).verb == "INSERT"
        is_early = at(write) < visible
        is_apart = weight in (Weight.AGAIN, Weight.LOOKED_AGAIN) and not self.is_of_change(write)
        rank = Rank(
            weight, visible, is_early, is_apart, not is_insert, write.number, -self.read.number
        )
        spoken_of = {step.number: step for step in (self.read, self.change, self.end, write)}
        return rank, Finding(anomaly, sentence, tuple(spoken_of.values()))

    def stored(self, write: Step) -> tuple[Weight, str, str] | None:
        """(weight, anomaly, sentence) for a write to a cache."""
        raise NotImplementedError

    def is_of_change(self, write: Step) -> bool:
        """Whether the write is one of the rows that the other session changed or added."""
        raise NotImplementedError

    def missed(self, write: Step) -> tuple[Weight, str, str] | None:
        """(weight, anomaly, sentence) for a write that found no row."""
        raise NotImplementedError

    def written(self, write: Step) -> tuple[Weight, str, str] | None:
        """(weight, anomaly, sentence) for a write that changed rows."""
        raise NotImplementedError

    @property
    def before(self) -> str:
        commit = "COMMIT" if self.end.kind is Kind.COMMIT else "write"
        return f"before {self.change.session}'s {commit} (line {self.timeline.label(self.end)})"

    def unseen(self, write_in_words: str) -> str:
        """The sentence on rows that came, went or changed after the reader had looked."""
        me, other = self.read.session, self.change.session
        table, verb = parts_of(self.change.shown).table, parts_of(self.change.shown).verb
        effect = {"INSERT": "added", "DELETE": "deleted"}.get(verb, "changed")
        if is_upsert(self.change):
            effect = "wrote"
        where = "" if self.end is self.change else f" (line {self.timeline.label(self.change)})"
        return (
            f"{me} looked at {table} (line {self.timeline.label(self.read)}) {self.before}, did "
            f"not see what {other} {effect}{where}, and {write_in_words}."
        )

    def goes_on(self, write: Step, table: str = "") -> str:
        """The write, in words. ``table``: the name to call its table by."""
        parts = parts_of(write.shown)
        line = self.timeline.label(write)
        if write.kind is Kind.CACHE:
            return f"went on to write to the cache “{cache_written(write)}” (line {line})"
        if table:
            does = "delete" if parts.verb == "DELETE" else "change"
        elif is_upsert(write):
            does = "write to"
        else:
            does = {"INSERT": "add to", "DELETE": "delete from"}.get(parts.verb, "change")
        return f"went on to {does} {table or parts.table} (line {line})"


@dataclass
class ConflictOfRow(Conflict):
    """The change was one of a row that was read."""

    row: Row
    """As it was read."""
    changed: dict[str, Value]
    """The columns that the change set to other values; none if it deleted the row."""

    def stored(self, write: Step) -> tuple[Weight, str, str] | None:
        if self.timeline.has_read_again(self.read, self.row, self.end, write):
            return None
        return Weight.CACHED, WRITE_SKEW, self.elsewhere(write)

    def is_of_change(self, write: Step) -> bool:
        return touches(write, self.row) is True

    def missed(self, write: Step) -> tuple[Weight, str, str] | None:
        parts = parts_of(write.shown)
        names = parts.sources.get(self.row.table)
        if self.timeline.has_read_again(self.read, self.row, self.end, write):
            return None
        if names is None or is_met(parts.condition, self.row.values, {None, *names}) is not True:
            return self.gone_by(write)
        line = self.timeline.label(write)
        if not self.changed:
            return (
                Weight.NOT_FOUND,
                STALE_CHECK,
                self.unseen(f"then found nothing to change (line {line})"),
            )
        for column, sign, literal in comparisons_in(parts.condition):
            if column in self.changed and sign == "=":
                row = f"{column} = {in_words(literal)}"
                ending = f"and then found no row with {row} any more (line {line})"
                return Weight.NOT_FOUND, STALE_CHECK, f"{self.saw(column)}, {ending}."
        return None

    def written(self, write: Step) -> tuple[Weight, str, str] | None:
        timeline = self.timeline
        if timeline.has_read_again(self.read, self.row, self.end, write):
            return Weight.AGAIN, STALE_CHECK, self.elsewhere(write)
        current = timeline.row_before(write, self.row, self.read)
        is_later = timeline.at(self.change) < timeline.at(write)
        if is_later and current is not None and touches(write, current):
            if parts_of(write.shown).verb == "DELETE":
                ending = f"and deleted the row (line {timeline.label(write)})"
                return Weight.OTHERWISE, LOST_UPDATE, f"{self.saw(self.column())}, {ending}."
            found = self.overwritten(write)
            if found is not None:
                return found
        if timeline.has_changed(self.row, self.read, self.change):
            return None  # it went by what it had written itself
        gone_by = self.gone_by(write)
        if gone_by is not None:
            return gone_by
        return Weight.ELSEWHERE, WRITE_SKEW, self.elsewhere(write)

    def overwritten(self, write: Step) -> tuple[Weight, str, str] | None:
        """The write sets a column of the same row, which another has changed."""
        parts, line = parts_of(write.shown), self.timeline.label(write)
        guarded = {token.name for token in parts.condition}
        assigned = dict(parts.assigned)
        columns = [each for each in self.columns_by_weight(assigned) if each not in guarded]
        if not columns:
            return None
        column = columns[0]
        is_repeated = column in assigned and self.is_the_same_word(column, assigned[column])
        weight = Weight.REPEATED if is_repeated else Weight.OVERWRITTEN
        weight = Weight.MARGINAL if self.is_marginal(column) else weight
        if column not in assigned:
            others = [c for c, e in parts.assigned if not self.is_as_read(c, e)] or list(assigned)
            rest = f"still set {others[0]} to {shown(assigned[others[0]])} (line {line})"
            return Weight.OTHERWISE, STALE_CHECK, f"{self.saw(column)}, and {rest}{NO_LONGER}"
        expression = assigned[column]
        is_relative = any(token.name == column for token in expression)
        if is_relative and len(in_words(expression)) > LONGEST_EXPRESSION:
            rest = f"still changed it (line {line})"
            return weight, STALE_CHECK, f"{self.saw(column)}, and {rest}{NO_LONGER}"
        if is_relative or is_repeated:
            rest = f"still set {column} to {shown(expression)} (line {line})"
            return weight, STALE_CHECK, f"{self.saw(column)}, and {rest}{NO_LONGER}"
        rest = f"wrote {column} = {shown(expression)} over it (line {line})"
        return weight, LOST_UPDATE, f"{self.saw(column)}, and {rest}."

    def gone_by(self, write: Step) -> tuple[Weight, str, str] | None:
        """The write looks for other rows by the value that was read."""
        parts = parts_of(write.shown)
        names = parts.sources.get(self.row.table)
        if names is None or is_met(parts.condition, self.row.values, {None, *names}) is not False:
            return None
        for column, sign, literal in comparisons_in(parts.condition):
            stale = is_equal(value_of(literal, {}), value_read(self.row, column))
            if column in self.changed and stale is True:
                where = f"line {self.timeline.label(write)}, {column} {sign} {in_words(literal)}"
                rest = f"still went by it ({where}){NO_LONGER}"
                return Weight.GONE_BY, STALE_CHECK, f"{self.saw(column)}, and {rest}"
        return None

    def elsewhere(self, write: Step) -> str:
        if not self.changed:
            return self.unseen(self.goes_on(write))
        name = "it" if self.is_of_change(write) else ""
        return f"{self.saw(self.column())}, and {self.goes_on(write, name)}."

    def saw(self, column: str) -> str:
        line = self.timeline.label(self.read)
        seen = f"{column} = {self.row.values[column]}" if column else f"a row of {self.row.table}"
        return f"{self.read.session} read {seen} (line {line}) {self.before}"

    def column(self) -> str:
        return next(iter(self.columns_by_weight({})), "")

    def columns_by_weight(self, assigned: dict[str, tuple[Token, ...]]) -> list[str]:
        """The changed columns: first those that the write sets, too, to values of its own."""
        return sorted(
            self.changed,
            key=lambda column: (
                self.is_marginal(column),
                column not in assigned,
                column in assigned and self.is_as_read(column, assigned[column]),
            ),
        )

    def is_marginal(self, column: str) -> bool:
        """Whether it is a date or a time, which nearly every save() sets; or a token."""
        value = self.changed[column]
        if not isinstance(value, str):
            return False
        return instant_of(value) is not None or (len(value) > LONGEST_WORD and " " not in value)

    def is_as_read(self, column: str, expression: tuple[Token, ...]) -> bool:
        return is_equal(value_of(expression, {}), value_read(self.row, column)) is True

    def is_the_same_word(self, column: str, expression: tuple[Token, ...]) -> bool:
        """Whether the other has written the same, and no number, so that nothing is lost."""
        value = value_of(expression, {})
        return isinstance(value, str | bool) and is_equal(value, self.changed[column]) is True


@dataclass
class ConflictOfSet(Conflict):
    """The change was one of rows that the read would have found, or found otherwise."""

    is_seen: bool
    """Whether that is certain."""

    def stored(self, write: Step) -> tuple[Weight, str, str] | None:
        if self.timeline.has_read_again(self.read, None, self.end, write):
            return None
        weight = Weight.CACHED if self.is_seen else Weight.HARDLY
        return weight, self.anomaly, self.unseen(self.goes_on(write))

    @property
    def anomaly(self) -> str:
        is_set_of_rows = parts_of(self.change.shown).verb in ("INSERT", "DELETE")
        return PHANTOM if is_set_of_rows else WRITE_SKEW

    def is_of_change(self, write: Step) -> bool:
        table = parts_of(self.change.shown).table
        return any(touches(write, Row(table, row)) for row in rows_added(self.change))

    def missed(self, write: Step) -> None:
        return None

    def written(self, write: Step) -> tuple[Weight, str, str] | None:
        sentence = self.unseen(self.goes_on(write, "it" if self.is_of_change(write) else ""))
        if self.timeline.has_read_again(self.read, None, self.end, write):
            weight = Weight.LOOKED_AGAIN if self.is_seen else Weight.HARDLY
            return weight, self.anomaly, sentence
        is_own = adds_to(write) is not None and adds_to(write) == adds_to(self.change)
        if is_own:
            sentence = self.unseen(f"added its own (line {self.timeline.label(write)})")
        if not self.is_seen:
            return Weight.LIKELY, self.anomaly, sentence
        if is_own and would_see(self.read, write) is not False:
            return Weight.BOTH_ADDED, self.anomaly, sentence
        weight = Weight.UNSEEN if self.anomaly == WRITE_SKEW else Weight.ELSEWHERE
        return weight, self.anomaly, sentence


NO_LONGER = ": what it had read was no longer true."


def adds_to(step: Step) -> str | None:
    """The table that it adds a row to; None if it is no INSERT, or may update a row instead."""
    parts = parts_of(step.shown)
    return parts.table if parts.verb == "INSERT" and not parts.assigned else None


def is_upsert(step: Step) -> bool:
    """Whether it is an INSERT that updates rows which are there already."""
    parts = parts_of(step.shown)
    return parts.verb == "INSERT" and bool(parts.assigned)


def comparisons_in(condition: tuple[Token, ...]) -> Iterator[tuple[str, str, tuple[Token, ...]]]:
    """The comparisons of a column with a value that a condition joins by AND."""
    tokens = without_brackets(condition)
    parts = split(tokens, "AND")
    if len(parts) > 1:
        for part in parts:
            yield from comparisons_in(tuple(part))
        return
    while len(tokens) > 2 and tokens[1].is_sign("."):
        tokens = tokens[2:]
    if len(tokens) > 2 and tokens[0].name and tokens[1].form is Form.SIGN:
        value = value_of(tokens[2:], {})
        if value is not UNKNOWN:
            yield tokens[0].name, tokens[1].text, tuple(tokens[2:])


def shown(expression: tuple[Token, ...]) -> str:
    text = in_words(expression)
    return text if len(text) <= LONGEST_EXPRESSION else text[: LONGEST_EXPRESSION - 1] + "…"


# Sessions that saw one transaction of another, and not yet its next one


def half_done(run: Run) -> Iterator[Finding]:
    """Sessions that saw one transaction of another, and not yet its next one, before they wrote."""
    timeline = Timeline(run)
    for late in run.steps:
        end = timeline.end_of(late) if late.changes else None
        for read in run.steps if end is not None else ():
            if end is None or not is_between(timeline, read, late, end):
                continue
            if not any(is_certain(each) for each in conflicts_of(timeline, read, late, end)):
                continue
            for early in run.steps:
                done = timeline.end_of(early) if early.changes else None
                if (
                    early.session == late.session
                    and done is not None
                    and timeline.at(done) < timeline.at(read)
                    and is_in(early, read)
                ):
                    yield half_seen(timeline, read, done, end)


def is_between(timeline: Timeline, read: Step, late: Step, end: Step) -> bool:
    """Whether the read came before the change was visible, and its session wrote after it."""
    return (
        read.kind in (Kind.READ, Kind.LOCK)
        and read.session != late.session
        and timeline.at(read) < timeline.at(end)
        and any(
            step.session == read.session and step.changes and step.number > read.number
            for step in timeline.steps
        )
    )


def is_certain(conflict: Conflict) -> bool:
    return isinstance(conflict, ConflictOfRow) or (
        isinstance(conflict, ConflictOfSet) and conflict.is_seen
    )


def is_in(change: Step, read: Step) -> bool:
    """Whether what was read is what the change had made of it."""
    table = parts_of(change.shown).table
    added = [Row(table, row) for row in rows_added(change)]
    return any(
        touches(change, row) is True or is_among(row, added, change) for row in rows_read(read)
    )


def half_seen(timeline: Timeline, read: Step, done: Step, end: Step) -> Finding:
    first, second = (
        f"{'COMMIT' if step.kind is Kind.COMMIT else 'write'} (line {timeline.label(step)})"
        for step in (done, end)
    )
    return Finding(
        UNEXPLAINED,
        f"{read.session} looked at {parts_of(read.shown).table} (line {timeline.label(read)}) "
        f"after {end.session}'s {first} and before {end.session}'s {second}: it saw half of what "
        f"{end.session} did.",
        (done, read, end),
    )
