"""Compares a performance with an earlier one that made the same choices.

Sessions that don't depend on the schedule alone can't be explored: a verdict on one performance
says nothing about the next. So each performance must come to the statements to which the earlier
one came.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from .conductor import Performance
from .errors import Unrepeatable
from .schedule import Choices, format_schedule
from .serial import DEADLOCK, results_of
from .session import Step
from .statements import in_short

NOT_THERE = "(done, or waiting for a lock)"


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


def notes_on_cold_start(first: Performance, later: Performance) -> Iterator[str]:
    """Sentences on sessions that ran other statements the very first time than ever after."""
    for name in dict.fromkeys(first.choices):
        was, is_ = (
            [event.step for event in each.events if event.step.session == name]
            for each in (first, later)
        )
        known = {step.sql for step in is_}
        once = next((step for step in was if step.sql not in known), None)
        if once is not None:
            yield (
                f"{name} ran “{shortened(in_short(once.sql))}” the first time only: something in "
                "Python remembers the answer, and no schedule had to ask again. If it may race, "
                "let setup() clear that memory, as by cache_clear()."
            )


def check_repeated(before: Performance, now: Performance, by_type: Collection[str] = ()) -> None:
    """Raise Unrepeatable if a performance isn't as an earlier one of the same schedule.

    ``by_type``: sessions whose results are chance, and may differ.
    """
    lines, lines_now = lines_of(before), lines_of(now)
    for place in range(max(len(lines), len(lines_now))):
        was, is_ = dict(lines[place : place + 1]), dict(lines_now[place : place + 1])
        if was != is_:
            steps = sum(not event.is_completion for event in before.events[:place])
            names = was | is_
            raise unrepeatable(
                before.choices[:steps],
                {name: was.get(name) or end_in_words(before, name) for name in names},
                {name: is_.get(name) or end_in_words(now, name) for name in names},
            )
    results, results_now = results_of(before, by_type), results_of(now, by_type)
    different = [name for name in results if results[name] != results_now.get(name)]
    if different:
        raise unrepeatable(
            before.choices,
            {name: end_in_words(before, name) for name in different},
            {name: end_in_words(now, name) for name in different},
        )


def lines_of(performance: Performance) -> list[tuple[str, str]]:
    """The lines of the transcript that another performance must repeat: (session, text).

    The wait that ends in a deadlock is left out: PostgreSQL may end it before anybody sees it.
    """
    lines = []
    for event in performance.events:
        step = event.step
        outcome = f"{step.sql} {step.sqlstate or step.rows}"
        if step.sqlstate == DEADLOCK:
            if not event.is_completion:
                lines.append((step.session, outcome))
        elif event.is_completion:
            lines.append((step.session, f"{outcome} <completed>"))
        else:
            lines.append((step.session, f"{outcome} <{step.wait}>" if step.wait else outcome))
    return lines


def unrepeatable(so_far: Choices, before: dict[str, str], now: dict[str, str]) -> Unrepeatable:
    """The error, which shows where sessions were, and where they are after the same choices."""
    differences = [
        f"\n  {name} was at: {before.get(name, NOT_THERE)}\n"
        f"  {name} is at:  {now.get(name, NOT_THERE)}"
        for name in sorted(before | now)
        if before.get(name) != now.get(name)
    ]
    return Unrepeatable(
        f"After the same {len(so_far)} steps ({format_schedule(so_far) or 'none'}) the sessions "
        f"were elsewhere:{''.join(differences)}"
    )
