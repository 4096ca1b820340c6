"""Tells in plain words what went wrong in a run, and names the anomaly."""

from __future__ import annotations

from collections.abc import Iterator

from .conditions import is_equal, value_of
from .conflicts import half_done, stale_reads
from .evidence import Row, Timeline, is_same, rows_read, value_read
from .findings import (
    CONSTRAINT,
    DEADLOCKED,
    LOST_UPDATE,
    NO_RACE,
    PHANTOM,
    REFUSED,
    STALE_CHECK,
    UNEXPLAINED,
    WRITE_SKEW,
    Finding,
)
from .parts import parts_of
from .result import Run, serial_orders_that_break
from .serial import DEADLOCK, SERIALIZATION_FAILURE
from .session import Step
from .statements import Kind

__all__ = [
    "CONSTRAINT",
    "DEADLOCKED",
    "LOST_UPDATE",
    "NO_RACE",
    "PHANTOM",
    "REFUSED",
    "STALE_CHECK",
    "UNEXPLAINED",
    "WRITE_SKEW",
    "Finding",
    "anomalies",
    "changed_columns",
    "describe_run",
    "findings",
]

IN_PYTHON = {
    Kind.POINT: "went on from its point",
    Kind.CLOCK: "read the clock",
    Kind.CACHE: "used the cache",
}
INTEGRITY = "23"  # the class of codes of violated constraints


def findings(run: Run) -> list[Finding]:
    """The anomalies in the transcript, the most telling first."""
    if run.breaks_without_race:
        return [Finding(NO_RACE, serial_orders_that_break([run]))]
    found = [*stale_reads(run), *refusals(run)] if run.is_flagged else [*refusals(run)]
    if not found and run.is_flagged:
        return [*half_done(run)][:1] or [unexplained(run)]
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
