"""The options of ``explore``: their types, and whether they make sense."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import cast

from .errors import Misuse
from .jobs import check_locks
from .result import Run

Call = Callable[[], object]
Invariant = Callable[[Run], object] | Callable[[], object]

READ_COMMITTED = "read committed"
ISOLATION_LEVELS = (READ_COMMITTED, "repeatable read", "serializable")


def named(sessions: Mapping[str, Call] | Iterable[Call]) -> dict[str, Call]:
    """Return the sessions by name: A, B, … where the caller gives none. Raises Misuse."""
    if not isinstance(sessions, Mapping):
        sessions = {chr(ord("A") + place): call for place, call in enumerate(sessions)}
    for name, call in sessions.items():
        if not callable(call):
            raise Misuse(f"Session {name} must be a function without arguments, not {call!r}.")
        if not isinstance(name, str) or not name or set(name) & set("* \n\t"):
            raise Misuse(f"A session's name must be a word without * and spaces, not {name!r}.")
    if len(sessions) < 2:
        raise Misuse(f"A race needs at least two sessions, not {len(sessions)}.")
    check_locks(sessions)
    return dict(sessions)


def no_setup() -> None:
    """Stands for a ``setup`` that the caller forgot."""
    raise Misuse(
        "setup is missing: give setup=…, a function that brings the database to the same state "
        "before each schedule."
    )


def check_bounds(
    max_preemptions: int | None,
    budget: int,
    seconds: float | None,
    samples: int,
    seed: int,
    reduce: bool | None,
) -> None:
    """Raise Misuse, with the option and its value, where an option can't be meant so."""
    numbers = {"max_preemptions": max_preemptions, "budget": budget, "samples": samples}
    for option, number in {**numbers, "seed": seed}.items():
        may_be_none = number is None and option == "max_preemptions"
        if not may_be_none and not is_number(number, int):
            raise Misuse(f"{option} must be a whole number, not {number!r}.")
    if seconds is not None and not is_number(seconds, (int, float)):
        raise Misuse(f"seconds must be a number, not {seconds!r}.")
    if reduce is not None and not isinstance(reduce, bool):
        raise Misuse(f"reduce must be True, False or None, not {reduce!r}.")
    if max_preemptions is not None and max_preemptions < 0:
        raise Misuse(f"max_preemptions must be 0 or more, not {max_preemptions}.")
    if budget < 1:
        raise Misuse(f"budget must be at least 1 schedule, not {budget}.")
    if seconds is not None and not seconds > 0:
        raise Misuse(f"seconds must be more than 0, not {seconds}.")
    if samples < 0:
        raise Misuse(f"samples must be 0 or more, not {samples}.")
    if reduce and max_preemptions is not None:
        raise Misuse(
            "reduce=True goes with no bound on preemptions: of two equal schedules it may leave "
            "out the one within the bound. Choose one of the two."
        )


def check_callable(option: str, call: object) -> None:
    if not callable(call):
        raise Misuse(f"{option} must be a function, not {call!r}.")


def is_number(value: object, kind: type | tuple[type, ...]) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def taking_run(invariant: Invariant) -> Callable[[Run], object]:
    """The invariant; also a function that takes no run."""
    try:
        takes_run = bool(inspect.signature(invariant).parameters)
    except (TypeError, ValueError):  # written in C, it doesn't tell
        takes_run = True
    if takes_run:
        return cast(Callable[[Run], object], invariant)
    return lambda run: cast(Callable[[], object], invariant)()
