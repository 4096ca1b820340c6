"""What came of a schedule, and of all of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .conductor import Event, Performance
from .errors import RaceFound
from .schedule import Choices, written
from .serial import DEADLOCK, Outcome
from .session import Step

if TYPE_CHECKING:
    from .explorer import Explorer


@dataclass(eq=False)
class Run:
    """One schedule, from start to end."""

    performance: Performance = field(repr=False)
    preemptions: int
    results: dict[str, str]
    """What each session returned or raised, in a word."""
    before: str
    after: str
    """The state, as ``describe`` says it."""
    broken: str | None = None
    """Why the invariant doesn't hold, if it doesn't."""
    is_serializable: bool | None = None
    """Whether it ends like a serial order; None if nobody looked."""
    outcome: Outcome | None = field(default=None, repr=False)
    number: int = 0
    """From 1, in the order in which schedules were performed."""

    @property
    def choices(self) -> Choices:
        return self.performance.choices

    @property
    def schedule(self) -> str:
        """As ``A*3 B*2 A B*2``: what ``replay`` takes."""
        return written(self.choices)

    @property
    def sessions(self) -> list[str]:
        return list(self.results)

    @property
    def returned(self) -> dict[str, object]:
        """What sessions returned, by name."""
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
        """In the order in which they were let through."""
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
        """PostgreSQL's codes of the statements that failed, handled or not."""
        return [step.sqlstate for step in self.steps if step.sqlstate]

    @property
    def is_flagged(self) -> bool:
        """Broken, or like no serial order."""
        return self.broken is not None or self.is_serializable is False

    def lines_to_compare(self) -> list[tuple[str, str]]:
        """What must be the same whenever the schedule is performed: (session, what it did)."""
        lines = []
        for event in self.events:
            step = event.step
            what = step.sql
            if event.is_completion:
                what += " <completed>"
            elif step.wait:
                what += f" <{step.wait}>"
            lines.append((step.session, f"{what} {step.sqlstate or step.rows}"))
        return lines + [(name, f"ends with {result}") for name, result in self.results.items()]


@dataclass
class Result:
    """What came of all the schedules that were performed."""

    explorer: Explorer = field(repr=False)
    postgresql: str
    isolation: str
    runs: list[Run] = field(default_factory=list, repr=False)
    upper_bound: int = 0
    """How many schedules there would be if nobody ever had to wait."""
    exhaustive: bool = False
    """Whether every schedule was performed (or one that comes to the same, where reduced)."""
    complete_up_to: int | None = None
    """Every schedule with that many preemptions was performed; None if really every one."""
    reduced: bool = False
    sampled: int = 0
    """How many of the schedules were drawn at random, past the budget."""
    given_up: int = 0
    """Schedules in which a session made too many steps."""
    cut: int = 0
    """Schedules given up because they only repeat others (``reduce``)."""
    retried: int = 0
    """Performances that went another way than the one they branched from, and were repeated."""
    seconds: float = 0.0
    broken_off: bool = False
    """Whether it is not at its end: under way, or ended before (Ctrl-C, an error)."""
    _by_choices: dict[Choices, Run] = field(default_factory=dict, repr=False)

    def add(self, run: Run | None, cut: str | None) -> None:
        if run is None:
            self.cut += cut == "explored elsewhere"
            self.given_up += cut != "explored elsewhere"
            return
        run.number = len(self.runs) + 1
        self.runs.append(run)
        self._by_choices[run.choices] = run

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
    def waits(self) -> int:
        """Runs in which somebody had to wait."""
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
        """How often each way of ending came up."""
        return Counter(run.outcome for run in self.runs if run.outcome is not None)

    @property
    def shortest(self) -> Run | None:
        """The broken run with the fewest preemptions, then steps; else one like no serial order."""
        return min(self.broken or self.not_serializable, key=shortness, default=None)

    @property
    def most_instructive(self) -> Run:
        """The shortest broken run; where none is, the shortest with the most waits."""
        return self.shortest or min(self.runs, key=lambda run: (-run.waits, *shortness(run)))

    @property
    def coverage(self) -> str:
        """How much of the space was seen, in words."""
        if self.broken_off:
            return "broken off"
        if self.exhaustive:
            return "exhaustive" + (", equal ones left out" if self.reduced else "")
        if self.complete_up_to is None:
            words = f"all but {self.given_up} with a session of too many steps"
        elif self.complete_up_to < 0:
            words = "not even all without preemption: the budget was too small"
        else:
            words = f"all with at most {preemptions_in_words(self.complete_up_to)}"
        return words + (f", and {self.sampled} at random" if self.sampled else "")

    def assert_holds(self) -> None:
        """Raise RaceFound, with the shortest transcript, if the invariant is broken anywhere."""
        if self.broken:
            raise RaceFound(self.failure(self.broken))

    def assert_serializable(self) -> None:
        """Raise RaceFound if any schedule ends like no serial order."""
        if self.not_serializable:
            raise RaceFound(self.failure(self.not_serializable))

    def failure(self, runs: list[Run]) -> str:
        from . import transcript  # it is made of runs

        run = min(runs, key=shortness)
        return (
            f"{len(runs)} of {self.schedules} schedules are broken ({self.coverage}). "
            f"The shortest:\n\n{transcript.as_text(run)}\n\n"
            f"To see it again: result.replay({run.schedule!r})"
        )

    def replay(self, schedule: Run | str) -> Run:
        """Perform a schedule again, as ``A*3 B*2 A``, and return how it ended.

        Raises Unrepeatable, with the statement that differs, if it was among the runs and is
        another now; ImpossibleSchedule if a session can't go on where it says so.
        """
        expected = schedule if isinstance(schedule, Run) else None
        if isinstance(schedule, str):
            expected = next((run for run in self.runs if run.schedule == schedule), None)
        return self.explorer.replay(schedule, expected)

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
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
            "broken_off": self.broken_off,
            "complete_up_to_preemptions": self.complete_up_to,
            "coverage": self.coverage,
            "retried": self.retried,
            "seconds": round(self.seconds, 3),
            "shortest": transcript.as_dict(self.shortest) if self.shortest else None,
        }


def preemptions_in_words(number: int) -> str:
    """
    >>> preemptions_in_words(1)
    '1 preemption'
    """
    return "1 preemption" if number == 1 else f"{number or 'no'} preemptions"


def shortness(run: Run) -> tuple[int, int, int]:
    return run.preemptions, len(run.choices), run.number
