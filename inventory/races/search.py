"""Chooses the next schedule: each one once, those with the fewest preemptions first.

A schedule is found again by its choices from the start (the sessions can't be rewound). Each
performance leaves the choices that it didn't make as branches; the queue hands them out by the
number of preemptions: switches away from a session that could have gone on. Most races need one
or two (Musuvathi and Qadeer, "Iterative context bounding", PLDI 2007).
"""

from __future__ import annotations

import heapq
import itertools
import random
from dataclasses import dataclass, field

from .conductor import Performance, Point
from .errors import ImpossibleSchedule
from .repeats import at_gates, left_its_way
from .schedule import Choices, format_schedule
from .session import Step
from .statements import Kind

Enabled = list[tuple[str, Step]]


@dataclass(order=True)
class Branch:
    """The start of a schedule: an earlier performance up to a point, then another choice."""

    preemptions: int
    number: int
    known: list[Point] = field(compare=False)
    """The points of the earlier performance, up to the one where this branches off."""
    chosen: str | None = field(compare=False)
    """The session to let through there; None for the very first performance."""
    asleep: frozenset[str] = field(compare=False)
    """Sessions to leave out there: another branch covers them, with the same outcome."""


class Search:
    """The queue of branches, and a count of the schedules that were left out."""

    def __init__(self, *, max_preemptions: int | None = None, reduce: bool = False) -> None:
        self.max_preemptions = max_preemptions
        self.reduce = reduce
        self.has_left_out = False
        self._numbers = itertools.count()
        self._queue = [Branch(0, next(self._numbers), [], None, frozenset())]

    @property
    def is_over(self) -> bool:
        return not self._queue

    @property
    def complete_up_to(self) -> int | None:
        """The number of preemptions up to which all schedules were performed; None if all were."""
        if self._queue:
            return self._queue[0].preemptions - 1
        return self.max_preemptions if self.has_left_out else None

    def next(self) -> Walk:
        """Take the next branch from the queue, and return a Walk that performs it."""
        return Walk(self, heapq.heappop(self._queue))

    def add(
        self, known: list[Point], chosen: str, preemptions: int, asleep: frozenset[str]
    ) -> None:
        if self.max_preemptions is not None and preemptions > self.max_preemptions:
            self.has_left_out = True
            return
        branch = Branch(preemptions, next(self._numbers), known, chosen, asleep)
        heapq.heappush(self._queue, branch)


class Walk:
    """Follows a branch to its new choice, goes on without preemption, notes other choices."""

    def __init__(self, search: Search, branch: Branch) -> None:
        self.search = search
        self.branch = branch
        self.restart()

    def restart(self) -> None:
        """Start over, for another try to perform the branch."""
        self._place = 0
        self._astray: Enabled | None = None
        self._asleep = self.branch.asleep
        self._others: list[tuple[int, str, int, frozenset[str]]] = []

    def choose(self, enabled: Enabled, last: str | None) -> str | None:
        place, self._place = self._place, self._place + 1
        if place < len(self.branch.known):
            return self._follow(self.branch.known[place], enabled, place)
        return self._go_on(enabled, last, place)

    def _follow(self, known: Point, enabled: Enabled, place: int) -> str | None:
        if at_gates(known.enabled) != at_gates(enabled):
            self._astray = enabled
            return None
        is_last = place == len(self.branch.known) - 1
        return self.branch.chosen if is_last else known.chosen

    def _go_on(self, enabled: Enabled, last: str | None, place: int) -> str | None:
        """Choose without preemption where possible, and note the other choices."""
        steps = dict(enabled)
        names = [name for name, _ in enabled if name not in self._asleep]
        names.sort(key=lambda name: name != last)  # stable: the session that went last goes on
        if not names:
            return None
        asleep = self._asleep
        for name in names:
            costs = last in steps and name != last
            stays = frozenset(
                other for other in asleep if are_independent(steps[other], steps[name])
            )
            if name == names[0]:
                self._asleep = stays
            else:
                self._others.append((place, name, costs, stays))
            if self.search.reduce:
                asleep = asleep | {name}
        return names[0]

    def check_followed(self, performance: Performance) -> None:
        """Raise Unrepeatable if the performance left the branch, or ended before its new choice."""
        known, place = self.branch.known, len(performance.points)
        if place < len(known):
            raise left_its_way(performance, known[place].enabled, self._astray or [])

    def note_branches(self, performance: Performance) -> None:
        """Put the ways not taken into the queue."""
        for place, name, costs, asleep in self._others:
            known = performance.points[: place + 1]
            preemptions = preemptions_in(known[:-1]) + costs
            self.search.add(known, name, preemptions, asleep)


def retraced(points: list[Point]) -> Walk:
    """A Walk that makes the choices of an earlier performance once more."""
    chosen = points[-1].chosen if points else None
    return Walk(Search(), Branch(0, 0, points, chosen, frozenset()))


class Serially:
    """Runs one session after the other, in this order, even if one has to wait for another."""

    def __init__(self, order: Choices) -> None:
        self.order = order

    def choose(self, enabled: Enabled, last: str | None) -> str | None:
        names = {name for name, _ in enabled}
        return next(name for name in self.order if name in names)


class Given:
    """Makes exactly these choices. If they end too soon, goes on without preemption."""

    def __init__(self, choices: Choices) -> None:
        self.choices = choices
        self._place = 0

    def choose(self, enabled: Enabled, last: str | None) -> str | None:
        names = [name for name, _ in enabled]
        place, self._place = self._place, self._place + 1
        if place >= len(self.choices):
            return last if last in names else names[0]
        wanted = self.choices[place]
        if wanted not in names:
            raise ImpossibleSchedule(
                f"Step {place + 1} of “{format_schedule(self.choices)}” is a step of {wanted}. But "
                f"{wanted} is done or waits for a lock; only {' and '.join(names)} could go on."
            )
        return wanted

    def check_followed(self, performance: Performance) -> None:
        """Raise ImpossibleSchedule if all sessions ended before the last choice."""
        done, wanted = len(performance.points), len(self.choices)
        if done < wanted and performance.cut is None:
            raise ImpossibleSchedule(
                f"“{format_schedule(self.choices)}” has {wanted} steps. But all sessions had "
                f"ended after {done}: “{format_schedule(performance.choices)}”."
            )


class AtRandom:
    """Chooses at random, each session equally likely, within the bound on preemptions."""

    def __init__(self, source: random.Random, max_preemptions: int | None) -> None:
        self._random = source
        self._left = max_preemptions

    def choose(self, enabled: Enabled, last: str | None) -> str | None:
        names = [name for name, _ in enabled]
        if self._left == 0 and last in names:
            return last
        chosen = self._random.choice(names)
        if self._left is not None and last in names and chosen != last:
            self._left -= 1
        return chosen


def preemptions_in(points: list[Point]) -> int:
    """How often a session was interrupted that could have gone on."""
    return sum(
        before.chosen in point.names and point.chosen != before.chosen
        for before, point in itertools.pairwise(points)
    )


def are_independent(one: Step, other: Step) -> bool:
    """Whether two steps of different sessions have the same effect in either order.

    True only where that is certain at READ COMMITTED: a read doesn't see uncommitted rows, and
    writes to different tables don't meet. False where it isn't certain, which only costs time.
    """
    if Kind.LOCAL in (one.kind, other.kind) or Kind.READ is one.kind is other.kind:
        return True
    for first, second in ((one, other), (other, one)):
        if first.kind in (Kind.COMMIT, Kind.ROLLBACK) and not first.has_written:
            return True
        if first.kind is Kind.READ:
            if second.kind is Kind.ROLLBACK:
                return True
            if second.kind in (Kind.WRITE, Kind.LOCK) and not second.is_autocommit:
                return True
    both = (one.kind, other.kind)
    if all(kind in (Kind.WRITE, Kind.LOCK, Kind.READ) for kind in both):
        return bool(one.tables and other.tables) and not one.tables & other.tables
    return False
