"""How far a race is searched: to a bound in each run, and further with --thorough."""

from __future__ import annotations

from typing import TypedDict


class Bounds(TypedDict):
    """Options of ``explore``."""

    max_preemptions: int
    budget: int
    samples: int
