"""Tells in plain words what went wrong in a run, and names the anomaly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .result import Run
from .serial import DEADLOCK, SERIALIZATION_FAILURE
from .session import Step
from .statements import Kind, assignments, target

LOST_UPDATE = "lost update"
STALE_CHECK = "stale check"
PHANTOM = "phantom"
WRITE_SKEW = "write skew"
DEADLOCKED = "deadlock"
REFUSED = "serialization failure"
CONSTRAINT = "constraint violation"
UNEXPLAINED = "not serializable"

INTEGRITY = "23"  # the class of codes of violated constraints


@dataclass(frozen=True)
class Finding:
    anomaly: str
    sentence: str


def findings(run: Run) -> list[Finding]:
    """The anomalies in the transcript, the most telling first."""
    found = [*stale_reads(run), *refusals(run)] if run.is_flagged else [*refusals(run)]
    order = (LOST_UPDATE, STALE_CHECK, PHANTOM, WRITE_SKEW, DEADLOCKED, REFUSED, CONSTRAINT)
    if any(finding.anomaly in (LOST_UPDATE, STALE_CHECK) for finding in found):
        found = [finding for finding in found if finding.anomaly != WRITE_SKEW]  # its other half
    found.sort(key=lambda finding: order.index(finding.anomaly))
    if not found and run.is_flagged:
        return [Finding(UNEXPLAINED, run.broken or "It ends like no serial order of its sessions.")]
    return found


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
        columns = changed_columns(run)
        changed = [
            f"{column} = {value}" for column, value in step.values[0].items() if column in columns
        ]
        if changed:
            return f"then read {', '.join(changed)}"
    return "went on with what was committed then"


def stale_reads(run: Run) -> Iterator[Finding]:
    """Sessions that wrote by a value which another had changed and committed since they read it."""
    timeline = Timeline(run)
    for write in run.steps:
        if not write.changes:
            continue
        wrote = target(write.shown)
        for read in timeline.reads_before(write):
            overtaken = timeline.change_committed_between(read, write)
            if overtaken is not None:
                yield describe_stale_read(timeline, read, *overtaken, write, wrote)


def describe_stale_read(
    timeline: Timeline, read: Step, change: Step, end: Step, write: Step, wrote: str | None
) -> Finding:
    me, other = write.session, change.session
    commit = f"{other}'s COMMIT" if end.kind is Kind.COMMIT else f"{other}'s write"
    before = f"before {commit} (line {timeline.label(end)})"
    at, then = timeline.label(read), timeline.label(write)
    if wrote == target(read.shown) and assignments(write.shown):
        column, value = changed_column(read, write)
        had = read.values[0].get(column) if read.values else None
        seen = f"{column} = {had}" if had is not None else "the row"
        if column in value:
            return Finding(
                STALE_CHECK,
                f"{me} read {seen} (line {at}) {before}, and still set {column} to "
                f"{value} (line {then}): what it had checked was no longer true.",
            )
        return Finding(
            LOST_UPDATE,
            f"{me} read {seen} (line {at}) {before}, and wrote {column} = {value} over it "
            f"(line {then}).",
        )
    if wrote == target(read.shown):
        return Finding(
            PHANTOM,
            f"{me} looked at {wrote} (line {at}) {before}, did not see what {other} added "
            f"(line {timeline.label(change)}), and added its own (line {then}).",
        )
    return Finding(
        WRITE_SKEW,
        f"{me} read {target(read.shown)} (line {at}) {before}, and wrote {wrote} (line {then}) by "
        f"what it had read.",
    )


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
            )
        elif step.sqlstate == SERIALIZATION_FAILURE:
            yield Finding(
                REFUSED,
                f"PostgreSQL ended {me}'s transaction, because {me} and {others} would not have "
                f"come out as one after the other (serialization failure, "
                f"{SERIALIZATION_FAILURE}){then}.",
            )
        elif step.sqlstate and step.sqlstate.startswith(INTEGRITY) and ended:
            yield Finding(
                CONSTRAINT,
                f"PostgreSQL refused {me}'s {step.kind.value} (line {Timeline(run).label(step)}): "
                f"{step.error}.",
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
    changed: set[str] = set()
    for step in run.steps:
        if step.kind is Kind.WRITE:
            for column, value in assignments(step.shown):
                read = {
                    values[column]
                    for other in run.steps
                    for values in other.values
                    if column in values and other.kind is not Kind.WRITE
                }
                if read != {value.strip("'")}:
                    changed.add(column)
    return changed


class Timeline:
    """The lines of the transcript at which steps took effect and became visible."""

    def __init__(self, run: Run) -> None:
        self._steps = run.steps
        self._effect: dict[int, int] = {}
        self._waited = set()
        for place, event in enumerate(run.events):
            self._effect[event.step.number] = place  # a completion, where there is one
            if event.is_completion:
                self._waited.add(event.step.number)

    def label(self, step: Step) -> str:
        return f"{step.number}'" if step.number in self._waited else str(step.number)

    def at(self, step: Step) -> int:
        return self._effect[step.number]

    def reads_before(self, write: Step) -> list[Step]:
        """The last read of each table by the writer, newest first."""
        mine = [
            step
            for step in self._steps
            if step.session == write.session
            and step.kind in (Kind.READ, Kind.LOCK)
            and step.number < write.number
        ]
        newest = {target(step.shown): step for step in mine}
        return sorted(newest.values(), key=lambda step: -step.number)

    def end_of(self, write: Step) -> Step | None:
        """The COMMIT that makes a write visible; in autocommit the write itself; else None."""
        if write.is_autocommit:
            return write
        for step in self._steps:
            if step.session == write.session and step.number > write.number:
                if step.kind is Kind.COMMIT and step.error is None:
                    return step
                if step.kind is Kind.ROLLBACK:
                    return None
        return None

    def change_committed_between(self, read: Step, write: Step) -> tuple[Step, Step] | None:
        """Another session's change of the rows that were read: not visible at the read.


        It becomes visible before the writer is done. Returns (change, step that showed it).
        """
        mine = self.end_of(write)
        if mine is None:
            return None
        for change in self._steps:
            if change.session == write.session or not change.changes:
                continue
            end = self.end_of(change)
            if (
                end is not None
                and target(change.shown) == target(read.shown)
                and self.at(read) < self.at(end) < self.at(mine)
            ):
                return change, end
        return None


def changed_column(read: Step, write: Step) -> tuple[str, str]:
    """The first column that the UPDATE sets to another value than was read."""
    pairs = assignments(write.shown)
    had = read.values[0] if read.values else {}
    for column, value in pairs:
        if column in had and value.strip("'") != had[column]:
            return column, value
    return pairs[0] if pairs else ("a column", "something")
