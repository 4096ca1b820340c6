"""Schedules as text: ``A*3 B*2 A B*2`` is three steps of A, two of B, and so on."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence

from .errors import Misuse

Choices = tuple[str, ...]
"""The session that was let through, at each point."""


def format_schedule(choices: Iterable[str]) -> str:
    """Return the choices as text.

    >>> format_schedule("AAABBABB")
    'A*3 B*2 A B*2'
    """
    runs = [(name, len(list(group))) for name, group in itertools.groupby(choices)]
    return " ".join(name if length == 1 else f"{name}*{length}" for name, length in runs)


def parse_schedule(text: str, sessions: Sequence[str]) -> Choices:
    """Return the choices of a schedule, as in its text. Raises Misuse if ``text`` isn't one.

    >>> "".join(parse_schedule("A*3 B*2 A B*2", ["A", "B"]))
    'AAABBABB'
    """
    choices: list[str] = []
    for part in text.split():
        found = re.fullmatch(r"(.+?)(?:\*([1-9]\d{0,3}))?", part)
        name = found[1] if found else part
        if name not in sessions:
            raise Misuse(
                f"The schedule names “{part}”. It must be made of the sessions "
                f"{', '.join(sessions)}, as in “{sessions[0]}*3 {sessions[-1]}*2”."
            )
        choices += [name] * int((found and found[2]) or 1)
    return tuple(choices)
