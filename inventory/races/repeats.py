"""Compares a performance with an earlier one that made the same choices.

Sessions that don't depend on the schedule alone can't be explored: a verdict on one performance
says nothing about the next. So each performance must come to the statements to which the earlier
one came.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from .conductor import Performance
from .errors import Unrepeatable
from .schedule import Choices, format_schedule
from .session import Step

if TYPE_CHECKING:
    from .result import Run

NOT_THERE = "(done, or waiting for a lock)"
ADVICE = (
    "The sessions depend on more than the schedule: a cache, a variable in Python that outlives a "
    "schedule (of a module, or lru_cache), the clock, chance, or rows that setup() doesn't reset. "
    "Let setup() bring all of it back to the same state."
)


def at_gates(enabled: Iterable[tuple[str, Step]]) -> dict[str, str]:
    """The statements at the gates, by session."""
    return {name: step.sql for name, step in enabled}


def left_its_way(
    performance: Performance,
    before: Iterable[tuple[str, Step]],
    now: Iterable[tuple[str, Step]],
) -> Unrepeatable:
    """The error of a performance whose sessions are at ``now``, and were at ``before``."""
    was, is_ = at_gates(before), at_gates(now)
    for name in was.keys() - is_.keys():
        is_[name] = end_in_words(performance, name)
    return unrepeatable(performance.choices, was, is_)


def end_in_words(performance: Performance, name: str) -> str:
    """How and after how many steps a session ended; if it didn't end, that it waits."""
    steps = performance.choices.count(name)
    after = f"ended after {steps} step{'' if steps == 1 else 's'}"
    if name in performance.raised:
        return f"({after}, and raised {performance.raised[name]!r})"
    if name in performance.returned:
        return f"({after}, and returned {shortened(repr(performance.returned[name]))})"
    return "(waiting for a lock)"


def shortened(text: str, longest: int = 80) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def check_repeated(expected: Run, run: Run) -> None:
    """Raise Unrepeatable if the run isn't as an earlier one of the same schedule."""
    before, now = expected.lines_to_compare(), run.lines_to_compare()
    for place in range(max(len(before), len(now))):
        was, is_ = dict(before[place : place + 1]), dict(now[place : place + 1])
        if was != is_:
            steps = sum(not event.is_completion for event in expected.events[:place])
            raise unrepeatable(expected.choices[:steps], was, is_)


def unrepeatable(so_far: Choices, before: dict[str, str], now: dict[str, str]) -> Unrepeatable:
    """The error, which shows where sessions were, and where they are after the same choices."""
    differences = [
        f"  {name} was at: {before.get(name, NOT_THERE)}\n"
        f"  {name} is at:  {now.get(name, NOT_THERE)}\n"
        for name in sorted(before | now)
        if before.get(name) != now.get(name)
    ]
    return Unrepeatable(
        f"After the same {len(so_far)} steps ({format_schedule(so_far) or 'none'}) the sessions "
        f"were elsewhere:\n{''.join(differences)}{ADVICE}"
    )
