"""The outcome of one schedule (Run), and of all of them (Result)."""

from __future__ import annotations

import textwrap
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .conductor import Event, Performance
from .errors import Misuse, RaceFound
from .repeats import lines_of
from .schedule import Choices, format_schedule
from .serial import DEADLOCK, Ending, Outcome
from .session import Step

if TYPE_CHECKING:
    from .explorer import Explorer

# Reasons why an exploration ended before all schedules were performed
FIRST = "first"
SECONDS = "seconds"
BUDGET = "budget"


@dataclass(eq=False)
class Run:
    """One schedule, from start to end."""

    performance: Performance = field(repr=False)
    preemptions: int
    results: dict[str, str]
    """The result or exception of each session, in a word."""
    before: str
    after: str
    """The state in words, as ``describe`` returned it."""
    broken: str | None = None
    """The reason why the invariant doesn't hold; None if it holds."""
    is_serializable: bool | None = None
    """Whether it ends like a serial order; None if that wasn't compared."""
    ending: Ending = field(default_factory=Ending, repr=False)
    """The end, whole."""
    outcome: Outcome | None = field(default=None, repr=False)
    """The end, made comparable."""
    number: int = 0
    """From 1, in the order in which schedules were performed."""

    @property
    def choices(self) -> Choices:
        return self.performance.choices

    @property
    def schedule(self) -> str:
        """As ``A*3 B*2 A B*2``: what ``replay`` takes."""
        return format_schedule(self.choices)

    @property
    def sessions(self) -> list[str]:
        return list(self.results)

    @property
    def returned(self) -> dict[str, object]:
        """The values that sessions returned, by name."""
        return self.performance.returned

    @property
    def raised(self) -> dict[str, BaseException]:
        """The exceptions with which sessions ended, by name."""
        return self.performance.raised

    @property
    def events(self) -> list[Event]:
        return self.performance.events

    @property
    def steps(self) -> list[Step]:
        """The steps in the order in which they started."""
        return [event.step for event in self.events if not event.is_completion]

    @property
    def waits(self) -> int:
        """How many steps had to wait for another session."""
        return sum(step.wait is not None for step in self.steps)

    @property
    def deadlocks(self) -> int:
        return sum(step.sqlstate == DEADLOCK for step in self.steps)

    @property
    def sqlstates(self) -> list[str]:
        """The SQLSTATEs of failed statements, whether or not the session handled the error."""
        return [step.sqlstate for step in self.steps if step.sqlstate]

    @property
    def is_serial(self) -> bool:
        """Whether each session began after the one before had ended, so that there was no race."""
        return self.performance.is_in_turn

    @property
    def order(self) -> tuple[str, ...]:
        """The sessions in the order in which they came to their first step."""
        return tuple(dict.fromkeys(self.choices))

    @property
    def breaks_without_race(self) -> bool:
        """Whether the invariant doesn't hold although the sessions ran one after the other."""
        ends_serially = self.is_serial and self.is_serializable is not False
        return self.broken is not None and ends_serially

    @property
    def reason(self) -> str:
        """``broken`` in a line, without what pytest adds to explain an assert."""
        first = next(iter((self.broken or "").splitlines()), "")
        return f"The invariant does not hold: {first}" if first.startswith("assert ") else first

    @property
    def is_flagged(self) -> bool:
        """Whether it is broken, or ends like no serial order."""
        return self.broken is not None or self.is_serializable is False

    def lines_to_compare(self) -> list[tuple[str, str]]:
        """The lines that a replay must repeat: (session, statement and outcome)."""
        results = [(name, f"ends with {result}") for name, result in self.results.items()]
        return lines_of(self.performance) + results


@dataclass
class Result:
    """The outcome of all schedules that were performed."""

    explorer: Explorer = field(repr=False)
    postgresql: str
    isolation: str
    runs: list[Run] = field(default_factory=list, repr=False)
    upper_bound: int = 0
    """The number of schedules if no session ever had to wait."""
    exhaustive: bool = False
    """Whether every schedule was performed; with ``reduce``, or one with the same effect."""
    complete_up_to: int | None = None
    """Every schedule with at most so many preemptions was performed. None: every schedule.

    -1: nobody knows, as for ``reduced`` ones that ended early.
    """
    ended_by: str | None = None
    """``first``, ``seconds`` or ``budget``: what ended it early. None: it came to its end."""
    reduced: bool = False
    sampled: int = 0
    """The number of schedules that were drawn at random, once the budget was used up."""
    given_up: int = 0
    """The number of schedules in which a session made too many steps."""
    cut: int = 0
    """The number of schedules given up because they only repeat others (``reduce``)."""
    retried: int = 0
    """The number of performances that left the way of their branch, and were repeated."""
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    """Sentences on what the result leaves out, each once: see ``note``."""
    broken_off: bool = False
    """Whether the exploration is under way, or ended early (Ctrl-C, an error)."""
    serial_runs: list[Run] = field(default_factory=list, repr=False)
    """Serial orders besides ``runs``: whether what is broken in these breaks without a race."""
    _by_choices: dict[Choices, Run] = field(default_factory=dict, repr=False)

    def add(self, run: Run | None, cut: str | None) -> None:
        if run is None:
            self.cut += cut == "explored elsewhere"
            self.given_up += cut != "explored elsewhere"
            return
        run.number = len(self.runs) + 1
        self.runs.append(run)
        self._by_choices[run.choices] = run

    def note(self, sentence: str) -> None:
        """Say something that this result leaves out, whether or not a schedule is broken."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def find(self, choices: Choices) -> Run | None:
        """The run with exactly these choices."""
        return self._by_choices.get(choices)

    @property
    def schedules(self) -> int:
        return len(self.runs)

    @property
    def broken(self) -> list[Run]:
        """Runs in which the invariant doesn't hold."""
        return [run for run in self.runs if run.broken is not None]

    @property
    def not_serializable(self) -> list[Run]:
        """Runs that end like no serial order."""
        return [run for run in self.runs if run.is_serializable is False]

    @property
    def serial_broken(self) -> list[Run]:
        """Runs in which the invariant doesn't hold although the sessions didn't race.

        They may be none of ``runs``, which can leave out a serial order as equal to a race.
        """
        return [run for run in (*self.runs, *self.serial_runs) if run.breaks_without_race]

    @property
    def waits(self) -> int:
        """Runs in which a session had to wait."""
        return sum(run.waits > 0 for run in self.runs)

    @property
    def deadlocks(self) -> int:
        """Runs with a deadlock."""
        return sum(run.deadlocks > 0 for run in self.runs)

    @property
    def sqlstates(self) -> Counter[str]:
        return Counter(code for run in self.runs for code in run.sqlstates)

    @property
    def outcomes(self) -> Counter[Outcome]:
        """The number of runs with each outcome."""
        return Counter(run.outcome for run in self.runs if run.outcome is not None)

    @property
    def shortest(self) -> Run | None:
        """The broken run with the fewest preemptions, then steps; else one like no serial order."""
        found = self.serial_broken or self.broken or self.not_serializable
        return min(found, key=shortness, default=None)

    @property
    def most_instructive(self) -> Run:
        """The shortest broken run; if there is none, the shortest of those with the most waits."""
        return self.shortest or min(self.runs, key=lambda run: (-run.waits, *shortness(run)))

    @property
    def coverage(self) -> str:
        """How many of the schedules were performed, in words."""
        if self.broken_off:
            return "broken off"
        if self.exhaustive:
            return "exhaustive" + (", equal ones left out" if self.reduced else "")
        if self.ended_by == FIRST:
            return "stopped at the first broken one"
        if self.complete_up_to is None:
            words = f"all but {self.given_up} with a session of too many steps"
        elif self.complete_up_to < 0:
            words = "not all" if self.reduced else "not even all without preemption"
        else:
            words = f"all with at most {preemptions_in_words(self.complete_up_to)}"
        if self.reduced:
            words += ", equal ones left out"
        if self.sampled:
            words += f", and {self.sampled} at random"
        return words + {SECONDS: "; then the time was over"}.get(self.ended_by or "", "")

    @property
    def left_out(self) -> list[str]:
        """Sentences on what a pass leaves out: its coverage, unless it is exhaustive; notes."""
        return [*([] if self.exhaustive else [f"Not exhaustive: {self.coverage}."]), *self.notes]

    def assert_holds(self) -> None:
        """Raise RaceFound, with the shortest transcript, if the invariant is broken anywhere.

        Raises Misuse if no schedule was judged, or, where none is broken, if not even all without
        preemption were performed.
        """
        __tracebackhide__ = True  # pytest shows the test, and not this
        if self.explorer.invariant is None:
            self._check_compared()
        if self.broken:
            raise RaceFound(self.failure(self.broken))
        self._check_enough()

    def assert_serializable(self) -> None:
        """Raise RaceFound if any schedule ends like no serial order.

        Raise it, too, if the exploration stopped at a broken schedule before it could tell.
        Raises Misuse if the ends weren't compared, or if too few schedules were: as assert_holds.
        """
        __tracebackhide__ = True
        self._check_compared()
        if self.not_serializable or self.ended_by == FIRST:
            raise RaceFound(self.failure(self.not_serializable or self.broken))
        self._check_enough()

    def _check_enough(self) -> None:
        __tracebackhide__ = True
        if self._has_seen_too_little:
            raise Misuse(
                f"Too few schedules for a pass: {counted(self.schedules, 'schedule')}, "
                f"{self.coverage}. Raise {'seconds' if self.ended_by == SECONDS else 'budget'}."
            )

    @property
    def _has_seen_too_little(self) -> bool:
        """Whether not even each session came first once."""
        if self.complete_up_to is None or self.complete_up_to >= 0:
            return False
        return not self.reduced or {run.order[0] for run in self.runs} < set(self.explorer.sessions)

    def _check_compared(self) -> None:
        if not self.explorer.serial:
            raise Misuse(
                "The schedules weren't compared with the serial orders, since serial=False was "
                "asked for. Leave it out, or give explore() an invariant and use assert_holds()."
            )

    @property
    def summary(self) -> str:
        """The result in a line, as “24 schedules, 0 broken (exhaustive)”, and its notes below."""
        words = f"{counted(self.schedules, 'schedule')}, {len(self.broken)} broken"
        unlike = [run for run in self.not_serializable if run.broken is None]
        if unlike:
            words += f", {len(unlike)} like no serial order"
        return "\n".join([f"{words} ({self.coverage}).", *self._notes])

    def failure(self, runs: list[Run], *, width: int | None = None) -> str:
        """The message on these runs, with the transcript of the shortest.

        ``width``: its columns; by default those of the terminal.
        """
        from . import transcript  # the failure is made of runs

        serial = self.serial_broken
        run = min(serial or runs, key=shortness)
        are = "is" if len(runs) == 1 else "are"
        schedules = counted(self.schedules, "schedule")
        are_broken = f"{len(runs)} of {schedules} {are} broken ({self.coverage})"
        if run not in runs:
            are_broken += "."
        else:
            are_broken += ":" if len(runs) == 1 else ". The shortest:"
        width = transcript.terminal_width() if width is None else width
        again = [f"To see it again: result.replay({run.schedule!r})"]
        if transcript.is_folded(run):
            again.append(
                f"To see all {len(run.events)} lines: RACES_FULL=1, or pytest --races-full"
            )
        return "\n".join(
            [
                *([serial_orders_that_break(serial)] if serial else []),
                are_broken,
                "",
                transcript.as_text(
                    run, width=width, sentence="" if run.breaks_without_race else None
                ),
                "",
                *again,
                *(line for note in self._notes for line in wrapped(note, width)),
            ]
        )

    def transcript(self, *, full: bool = False, width: int | None = None) -> str:
        """The transcript of the run that shows most, folded if it is long; ``full``: never."""
        from . import transcript

        return transcript.as_text(self.most_instructive, full=full or None, width=width)

    @property
    def _notes(self) -> list[str]:
        return [f"Note: {note}" for note in self.notes]

    def replay(self, schedule: Run | str) -> Run:
        """Perform a schedule such as ``A*3 B*2 A`` again, and return the run.

        Raises Unrepeatable, with the statement that differs, if the run differs from the recorded
        one; ImpossibleSchedule if a session can't go on where the schedule says so.
        """
        expected = schedule if isinstance(schedule, Run) else None
        if isinstance(schedule, str):
            expected = next((run for run in self.runs if run.schedule == schedule), None)
        return self.explorer.replay(schedule, expected)

    def as_dict(self) -> dict[str, Any]:
        """The whole result, for JSON."""
        from . import transcript

        return {
            "postgresql": self.postgresql,
            "isolation": self.isolation,
            "schedules": self.schedules,
            "broken": len(self.broken),
            "not_serializable": len(self.not_serializable),
            "waits": self.waits,
            "deadlocks": self.deadlocks,
            "exhaustive": self.exhaustive,
            "ended_by": self.ended_by,
            "broken_off": self.broken_off,
            "complete_up_to_preemptions": self.complete_up_to,
            "coverage": self.coverage,
            "notes": list(self.notes),
            "retried": self.retried,
            "seconds": round(self.seconds, 3),
            "shortest": transcript.as_dict(self.shortest) if self.shortest else None,
        }


def serial_orders_that_break(serial: list[Run]) -> str:
    """The sentence on serial orders that break the invariant."""
    orders = [", then ".join(dict.fromkeys(run.choices)) for run in serial]
    sentence = f"This breaks without any race: {orders[0]}"
    if len(orders) == 2:
        sentence += f"; and {orders[1]}"
    elif len(orders) > 2:
        sentence += f"; and in {len(orders) - 1} other orders"
    return sentence + "."


def wrapped(text: str, width: int) -> list[str]:
    """The text in lines, without a break in a word, so that it can still be copied."""
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


def counted(number: int, noun: str) -> str:
    """
    >>> counted(2, "schedule")
    '2 schedules'
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def preemptions_in_words(number: int) -> str:
    """
    >>> preemptions_in_words(1)
    '1 preemption'
    """
    return counted(number, "preemption") if number else "no preemptions"


def shortness(run: Run) -> tuple[int, int, int]:
    return run.preemptions, len(run.choices), run.number
