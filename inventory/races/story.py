"""Tells in plain words what went wrong in a run, and names the anomaly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from .conditions import UNKNOWN, Value, instant_of, is_equal, is_met, value_of
from .evidence import (
    Row,
    Timeline,
    columns_changed,
    is_same,
    rows_added,
    rows_read,
    touches,
    value_read,
    would_see,
)
from .result import Run, serial_orders_that_break
from .serial import DEADLOCK, SERIALIZATION_FAILURE
from .session import Step
from .statements import Kind, in_words, parts_of
from .tokens import Form, Token, split, without_brackets

LOST_UPDATE = "lost update"
STALE_CHECK = "stale check"
PHANTOM = "phantom"
WRITE_SKEW = "write skew"
DEADLOCKED = "deadlock"
REFUSED = "serialization failure"
CONSTRAINT = "constraint violation"
UNEXPLAINED = "not serializable"
NO_RACE = "no race"

IN_PYTHON = {
    Kind.POINT: "went on from its point",
    Kind.CLOCK: "read the clock",
    Kind.CACHE: "used the cache",
}
INTEGRITY = "23"  # the class of codes of violated constraints


LONGEST_EXPRESSION = 60  # characters
LONGEST_WORD = 30  # a longer one is a token, a signature, or encoded data


@dataclass(frozen=True)
class Finding:
    """An anomaly in a run."""

    anomaly: str
    sentence: str
    steps: tuple[Step, ...] = ()
    """The steps that the sentence speaks of."""


def findings(run: Run) -> list[Finding]:
    """The anomalies in the transcript, the most telling first."""
    if run.breaks_without_race:
        return [Finding(NO_RACE, serial_orders_that_break([run]))]
    found = [*stale_reads(run), *refusals(run)] if run.is_flagged else [*refusals(run)]
    if not found and run.is_flagged:
        return [unexplained(run)]
    return found


def unexplained(run: Run) -> Finding:
    """Statements don't explain it. If another session came in before a step in Python, say so."""
    sentence = "The statements alone don't tell why"
    if run.is_serializable is False:
        sentence += " it ends like no serial order of its sessions"
    for step in run.steps:
        between = steps_before(run, step) if step.is_in_python else []
        if between:
            names = " and ".join(sorted({each.session for each in between}))
            lines = " to ".join(dict.fromkeys(str(between[end].number) for end in (0, -1)))
            sentence += (
                f". {names} came in (line{'s' * (len(between) > 1)} {lines}) before {step.session} "
                f"{IN_PYTHON[step.kind]} (line {step.number})"
            )
            return Finding(UNEXPLAINED, f"{sentence}.", (*between, step))
    return Finding(UNEXPLAINED, f"{sentence}.")


def steps_before(run: Run, step: Step) -> list[Step]:
    """The steps of other sessions between this step and the one before it of the same session."""
    before = run.steps[: step.number - 1]
    own = [each.number for each in before if each.session == step.session]
    return [each for each in before if own and each.number > own[-1]]


def anomalies(run: Run) -> list[str]:
    """The names of the anomalies, each once."""
    return list(dict.fromkeys(finding.anomaly for finding in findings(run)))


def describe_run(run: Run) -> str:
    """One sentence on the first anomaly, or on the first wait."""
    found = findings(run)
    if found:
        return found[0].sentence
    waits = [step for step in run.steps if step.wait]
    if waits:
        first = waits[0]
        assert first.wait is not None
        return (
            f"{first.session} had to wait for {' and '.join(first.wait.on)} ({first.wait.lock}), "
            f"and {end_of_wait(run, first)}."
        )
    return "Nobody got in anybody's way."


def end_of_wait(run: Run, step: Step) -> str:
    """The outcome of a step after its wait, in words."""
    if step.error:
        return f"was then refused: {step.error}"
    if step.kind is Kind.WRITE and step.rows == 0:
        return "then found no row that met its condition any more"
    if step.kind is Kind.LOCK and step.values:
        changed = ", ".join(f"{column} = {value}" for column, value in news_in(run, step).items())
        if changed:
            return f"then read {changed}"
    return "went on with what was committed then"


def news_in(run: Run, step: Step) -> dict[str, str]:
    """The values of the first row read that differ from an earlier read of the same row."""
    columns = changed_columns(run)
    news = {column: text for column, text in step.values[0].items() if column in columns}
    [row, *_] = [*rows_read(step), Row("", {})]
    earlier = [
        other
        for read in run.steps
        if read.number < step.number and read.kind in (Kind.READ, Kind.LOCK)
        for other in rows_read(read)
        if is_same(row, other, step)
    ]
    if not earlier:
        return news
    return {
        column: text
        for column, text in news.items()
        if any(other.values.get(column, text) != text for other in earlier)
    }


# Sessions that wrote by what another had changed and committed since they read it


class Rank(NamedTuple):
    """The order of findings: the one that explains most comes first."""

    weight: int
    line: int
    """Where the change became visible."""
    is_early: bool
    """Whether the write came before that, and was committed after it."""
    is_apart: bool
    """Whether the write is of other rows than the change, though it may be of the same."""
    is_no_insert: bool
    write: int
    read: int


# Weights, the most telling first.
OVERWRITTEN, NOT_FOUND, REPEATED, BOTH_ADDED, GONE_BY, OTHERWISE = range(6)
ELSEWHERE, UNSEEN, AGAIN, MARGINAL, LIKELY, HARDLY = range(6, 12)


def stale_reads(run: Run) -> list[Finding]:
    """The findings that explain most, of sessions that wrote by what was no longer true."""
    timeline = Timeline(run)
    best: dict[str, tuple[Rank, Finding]] = {}
    for rank, finding in sorted(conflicts(timeline), key=lambda pair: pair[0]):
        best.setdefault(finding.steps[0].session, (rank, finding))
    found = list(best.values())
    return [finding for rank, finding in found if rank.weight == found[0][0].weight]


def conflicts(timeline: Timeline) -> Iterator[tuple[Rank, Finding]]:
    for name in dict.fromkeys(step.session for step in timeline.steps):
        writes = [
            step
            for step in timeline.steps
            if step.session == name and step.kind is Kind.WRITE and step.error is None
        ]
        for read in timeline.reads_of(name) if writes else ():
            for change, end in timeline.changes_after(read):
                for conflict in conflicts_of(timeline, read, change, end):
                    for write in writes:
                        found = conflict.with_write(write)
                        if found is not None:
                            yield found


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
        if at(write) < at(self.read):
            return None
        if write.rows == 0:
            found = self.missed(write) if visible < at(write) else None
        else:
            found = self.written(write) if mine is not None and visible < at(mine) else None
        if found is None:
            return None
        weight, anomaly, sentence = found
        is_insert = parts_of(write.shown).verb == "INSERT"
        is_early = at(write) < visible
        is_apart = weight == AGAIN and not self.is_of_change(write)
        rank = Rank(
            weight, visible, is_early, is_apart, not is_insert, write.number, -self.read.number
        )
        spoken_of = {step.number: step for step in (self.read, self.change, self.end, write)}
        return rank, Finding(anomaly, sentence, tuple(spoken_of.values()))

    def is_of_change(self, write: Step) -> bool:
        """Whether the write is one of the rows that the other session changed or added."""
        raise NotImplementedError

    def missed(self, write: Step) -> tuple[int, str, str] | None:
        """(weight, anomaly, sentence) for a write that found no row."""
        raise NotImplementedError

    def written(self, write: Step) -> tuple[int, str, str] | None:
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
        where = "" if self.end is self.change else f" (line {self.timeline.label(self.change)})"
        return (
            f"{me} looked at {table} (line {self.timeline.label(self.read)}) {self.before}, did "
            f"not see what {other} {effect}{where}, and {write_in_words}."
        )

    def goes_on(self, write: Step, table: str = "") -> str:
        """The write, in words. ``table``: the name to call its table by."""
        parts = parts_of(write.shown)
        line = self.timeline.label(write)
        if table:
            does = "delete" if parts.verb == "DELETE" else "change"
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

    def is_of_change(self, write: Step) -> bool:
        return touches(write, self.row) is True

    def missed(self, write: Step) -> tuple[int, str, str] | None:
        parts = parts_of(write.shown)
        names = parts.sources.get(self.row.table)
        if self.timeline.has_read_again(self.read, self.row, self.end, write):
            return None
        if names is None or is_met(parts.condition, self.row.values, {None, *names}) is not True:
            return self.gone_by(write)
        line = self.timeline.label(write)
        if not self.changed:
            return (
                NOT_FOUND,
                STALE_CHECK,
                self.unseen(f"then found nothing to change (line {line})"),
            )
        for column, sign, literal in comparisons_in(parts.condition):
            if column in self.changed and sign == "=":
                row = f"{column} = {in_words(literal)}"
                ending = f"and then found no row with {row} any more (line {line})"
                return NOT_FOUND, STALE_CHECK, f"{self.saw(column)}, {ending}."
        return None

    def written(self, write: Step) -> tuple[int, str, str] | None:
        timeline = self.timeline
        if timeline.has_read_again(self.read, self.row, self.end, write):
            return AGAIN, STALE_CHECK, self.elsewhere(write)
        current = timeline.row_before(write, self.row, self.read)
        is_later = timeline.at(self.change) < timeline.at(write)
        if is_later and current is not None and touches(write, current):
            if parts_of(write.shown).verb == "DELETE":
                ending = f"and deleted the row (line {timeline.label(write)})"
                return OTHERWISE, LOST_UPDATE, f"{self.saw(self.column())}, {ending}."
            found = self.overwritten(write)
            if found is not None:
                return found
        if timeline.has_changed(self.row, self.read, self.change):
            return None  # it went by what it had written itself
        gone_by = self.gone_by(write)
        if gone_by is not None:
            return gone_by
        return ELSEWHERE, WRITE_SKEW, self.elsewhere(write)

    def overwritten(self, write: Step) -> tuple[int, str, str] | None:
        """The write sets a column of the same row, which another has changed."""
        parts, line = parts_of(write.shown), self.timeline.label(write)
        guarded = {token.name for token in parts.condition}
        assigned = dict(parts.assigned)
        columns = [each for each in self.columns_by_weight(assigned) if each not in guarded]
        if not columns:
            return None
        column = columns[0]
        is_repeated = column in assigned and self.is_the_same_word(column, assigned[column])
        weight = REPEATED if is_repeated else OVERWRITTEN
        weight = MARGINAL if self.is_marginal(column) else weight
        if column not in assigned:
            others = [c for c, e in parts.assigned if not self.is_as_read(c, e)] or list(assigned)
            rest = f"still set {others[0]} to {shown(assigned[others[0]])} (line {line})"
            return OTHERWISE, STALE_CHECK, f"{self.saw(column)}, and {rest}{NO_LONGER}"
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

    def gone_by(self, write: Step) -> tuple[int, str, str] | None:
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
                return GONE_BY, STALE_CHECK, f"{self.saw(column)}, and {rest}"
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

    def is_of_change(self, write: Step) -> bool:
        table = parts_of(self.change.shown).table
        return any(touches(write, Row(table, row)) for row in rows_added(self.change))

    def missed(self, write: Step) -> None:
        return None

    def written(self, write: Step) -> tuple[int, str, str] | None:
        verb, parts = parts_of(self.change.shown).verb, parts_of(write.shown)
        anomaly = PHANTOM if verb in ("INSERT", "DELETE") else WRITE_SKEW
        table = parts_of(self.change.shown).table
        is_own = verb == parts.verb == "INSERT" and parts.table == table
        if is_own:
            sentence = self.unseen(f"added its own (line {self.timeline.label(write)})")
        elif self.is_of_change(write):
            sentence = self.unseen(self.goes_on(write, "it"))
        else:
            sentence = self.unseen(self.goes_on(write))
        if self.timeline.has_read_again(self.read, None, self.end, write):
            return (AGAIN if self.is_seen else HARDLY), anomaly, sentence
        if not self.is_seen:
            return LIKELY, anomaly, sentence
        if is_own and would_see(self.read, write) is not False:
            return BOTH_ADDED, anomaly, sentence
        return (ELSEWHERE if verb == "INSERT" else UNSEEN), anomaly, sentence


NO_LONGER = ": what it had read was no longer true."


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


# Sessions that PostgreSQL stopped


def refusals(run: Run) -> Iterator[Finding]:
    """Sessions that PostgreSQL stopped."""
    for step in run.steps:
        me, ended = step.session, step.session in run.raised
        then = f", and {me} tried again" if goes_on_after(run, step) else ""
        others = " and ".join(name for name in run.sessions if name != me)
        if step.sqlstate == DEADLOCK:
            yield Finding(
                DEADLOCKED,
                f"{me} and {others} each waited for what the other had locked, and PostgreSQL "
                f"ended {me}'s transaction (deadlock detected, {DEADLOCK}){then}.",
                (step,),
            )
        elif step.sqlstate == SERIALIZATION_FAILURE:
            yield Finding(
                REFUSED,
                f"PostgreSQL ended {me}'s transaction, because {me} and {others} would not have "
                f"come out as one after the other (serialization failure, "
                f"{SERIALIZATION_FAILURE}){then}.",
                (step,),
            )
        elif step.sqlstate and step.sqlstate.startswith(INTEGRITY) and ended:
            yield Finding(
                CONSTRAINT,
                f"PostgreSQL refused {me}'s {step.kind.value} (line {Timeline(run).label(step)}): "
                f"{step.error}.",
                (step,),
            )


def goes_on_after(run: Run, failed: Step) -> bool:
    return any(
        step.session == failed.session
        and step.number > failed.number
        and step.kind is not Kind.ROLLBACK
        for step in run.steps
    )


def changed_columns(run: Run) -> set[str]:
    """Columns that a session changes in this run."""
    read = [row for step in run.steps if step.kind is not Kind.WRITE for row in rows_read(step)]
    changed: set[str] = set()
    for step in run.steps:
        if step.kind is Kind.WRITE:
            for column, expression in parts_of(step.shown).assigned:
                value = value_of(expression, {})
                same = [
                    is_equal(value, value_read(row, column)) for row in read if column in row.values
                ]
                if not same or not all(each is True for each in same):
                    changed.add(column)
    return changed
