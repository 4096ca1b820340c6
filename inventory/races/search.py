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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from .conductor import Performance, Point
from .errors import ImpossibleSchedule
from .repeats import at_gates, left_its_way
from .reversals import moves_of, reversals_in
from .schedule import Choices, format_schedule
from .session import Step
from .statements import Kind
from .touch import Extent, meet

Enabled = list[tuple[str, Step]]


@dataclass(eq=False)
class Node:
    """A point that all performances with the same choices so far come to."""

    enabled: tuple[tuple[str, Step], ...]
    """The sessions that can go on, and their next steps."""
    last: str | None
    """The session that went last."""
    preemptions: int
    asleep: frozenset[str]
    """Sessions to leave out here: another branch covers them, with the same outcome."""
    parent: Node | None = None
    tried: set[str] = field(default_factory=set)
    """Choices that were made here, or are in the queue."""

    @property
    def steps(self) -> dict[str, Step]:
        return dict(self.enabled)

    def preemptions_after(self, chosen: str) -> int:
        return self.preemptions + (chosen != self.last and self.last in self.steps)

    def path(self) -> list[Node]:
        """All nodes from the start to this one."""
        path, node = [self], self
        while node.parent is not None:
            node = node.parent
            path.append(node)
        return path[::-1]


@dataclass(order=True)
class Branch:
    """The start of a schedule: the way to a node, then another choice."""

    preemptions: int
    rank: int
    """0: the choice lets a session change what the interrupted one has read and goes on to use."""
    number: int
    node: Node | None = field(compare=False)
    """None for the very first performance."""
    chosen: str = field(compare=False)
    asleep: frozenset[str] = field(compare=False)
    """Sessions that other branches of this node cover."""


class Search:
    """The queue of branches, and whether schedules were left out."""

    def __init__(
        self,
        *,
        max_preemptions: int | None = None,
        reduce: bool = False,
        writes: Mapping[str, Extent] | None = None,
    ) -> None:
        self.max_preemptions = max_preemptions
        self.reduce = reduce
        self._writes = writes or {}
        self.has_left_out = False
        self._numbers = itertools.count()
        self._queue = [Branch(0, 0, next(self._numbers), None, "", frozenset())]

    @property
    def is_over(self) -> bool:
        return not self._queue

    @property
    def complete_up_to(self) -> int | None:
        """The number of preemptions up to which all schedules were performed; None if all were.

        A race that is seen later may add a branch with fewer preemptions than others had: so with
        ``reduce`` it is -1 up to the end.
        """
        if self._queue:
            return -1 if self.reduce else self._queue[0].preemptions - 1
        return self.max_preemptions if self.has_left_out else None

    def next(self) -> Walk:
        """Take the next branch from the queue, and return a Walk that performs it."""
        return Walk(self, heapq.heappop(self._queue))

    def may_change(self, name: str, read: Step) -> bool:
        """Whether a session writes, in a serial order, rows that the step reads."""
        return meet(read.touch.sees, self._writes.get(name, {}))

    def add(self, node: Node, chosen: str, rank: int) -> None:
        """Put a way not taken into the queue."""
        preemptions = node.preemptions_after(chosen)
        if self.max_preemptions is not None and preemptions > self.max_preemptions:
            self.has_left_out = True
            return
        asleep = node.asleep | node.tried if self.reduce else frozenset()
        node.tried.add(chosen)
        branch = Branch(preemptions, rank, next(self._numbers), node, chosen, asleep)
        heapq.heappush(self._queue, branch)


class Walk:
    """Follows a branch to its new choice, goes on without preemption, notes other choices."""

    def __init__(self, search: Search, branch: Branch) -> None:
        self.search = search
        self.branch = branch
        self.known = branch.node.path() if branch.node is not None else []
        self.restart()

    def restart(self) -> None:
        """Start over, for another try to perform the branch."""
        self.nodes = list(self.known)
        """The nodes on the way, those that are new included."""
        self._chosen: list[str] = []
        self._astray: Enabled | None = None

    def choose(
        self, enabled: Enabled, last: str | None, completed: Sequence[Step] = ()
    ) -> str | None:
        place = len(self._chosen)
        chosen: str | None
        if place < len(self.known):
            chosen = self._follow(enabled, place)
        else:
            self.nodes.append(self._node(enabled, last, completed))
            chosen = self._go_on(self.nodes[-1])
        if chosen is not None:
            self._chosen.append(chosen)
        return chosen

    def _follow(self, enabled: Enabled, place: int) -> str | None:
        if at_gates(self.known[place].enabled) != at_gates(enabled):
            self._astray = enabled
            return None
        is_last = place == len(self.known) - 1
        return self.branch.chosen if is_last else self.known[place + 1].last

    def _node(self, enabled: Enabled, last: str | None, completed: Sequence[Step]) -> Node:
        """A node that no performance has come to before."""
        if not self.nodes:
            return Node(tuple(enabled), None, 0, frozenset())
        parent = self.nodes[-1]
        assert last is not None
        is_branch = len(self.nodes) == len(self.known)
        asleep = self.branch.asleep if is_branch else parent.asleep
        made = (parent.steps[last], *completed)
        return Node(
            tuple(enabled),
            last,
            parent.preemptions_after(last),
            frozenset(
                name
                for name in asleep
                if not any(parent.steps[name].touch.concerns(step.touch) for step in made)
            ),
            parent,
        )

    def _go_on(self, node: Node) -> str | None:
        """Choose without preemption where possible. None: other branches cover all that follows."""
        names = [name for name, _ in node.enabled if name not in node.asleep]
        if node.last in names:
            return node.last
        return names[0] if names else None

    def check_followed(self, performance: Performance) -> None:
        """Raise Unrepeatable if the performance left the branch, or ended before its new choice."""
        place = len(performance.points)
        if place < len(self.known):
            raise left_its_way(performance, self.known[place].enabled, self._astray or [])

    def note_branches(self, performance: Performance) -> None:
        """Note the choices that were made, and put ways not taken into the queue."""
        for node, chosen in zip(self.nodes, self._chosen, strict=False):
            node.tried.add(chosen)
        ways = self._reversing(performance) if self.search.reduce else self._all_others()
        steps = [move.steps[0] for move in moves_of(performance)]
        for place, chosen in ways:
            self.search.add(self.nodes[place], chosen, self._rank(place, chosen, steps))

    def _all_others(self) -> Iterator[tuple[int, str]]:
        """All choices that weren't made at the new nodes."""
        for place in range(len(self.known), len(self.nodes)):
            node = self.nodes[place]
            yield from ((place, name) for name in node.steps if name not in node.tried)

    def _reversing(self, performance: Performance) -> Iterator[tuple[int, str]]:
        """Choices that turn round a race of this performance, where none is made or queued yet."""
        for reversal in reversals_in(performance):
            node = self.nodes[reversal.place]
            covered = node.asleep | node.tried
            if covered.isdisjoint(reversal.candidates):
                yield reversal.place, min(reversal.candidates, key=node.preemptions_after)

    def _rank(self, place: int, chosen: str, steps: Sequence[Step]) -> int:
        """0 where the chosen session may change what the interrupted one has read and goes by."""
        last = self.nodes[place].last
        goes_on = any(step.session == last and step.kind is Kind.WRITE for step in steps[place:])
        is_stale = goes_on and any(
            step.session == last and step.kind is Kind.READ and self.search.may_change(chosen, step)
            for step in steps[:place]
        )
        return 0 if is_stale else 1


def retraced(points: list[Point]) -> Walk:
    """A Walk that makes the choices of an earlier performance once more."""
    node, last = None, None
    for point in points:
        node, last = Node(point.enabled, last, 0, frozenset(), node), point.chosen
    return Walk(Search(), Branch(0, 0, 0, node, last or "", frozenset()))


class Serially:
    """Runs one session after the other, in this order, even if one has to wait for another."""

    def __init__(self, order: Choices) -> None:
        self.order = order

    def choose(
        self, enabled: Enabled, last: str | None, completed: Sequence[Step] = ()
    ) -> str | None:
        names = {name for name, _ in enabled}
        return next(name for name in self.order if name in names)


class Given:
    """Makes exactly these choices. If they end too soon, goes on without preemption."""

    def __init__(self, choices: Choices) -> None:
        self.choices = choices
        self._place = 0

    def choose(
        self, enabled: Enabled, last: str | None, completed: Sequence[Step] = ()
    ) -> str | None:
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
    """Chooses at random, each session equally likely.

    Within a bound on preemptions it draws after how many steps of a session, of at most ``steps``,
    the next one comes. Were it drawn at each step, nearly all would come at the first ones.
    """

    def __init__(self, source: random.Random, max_preemptions: int | None, steps: int) -> None:
        self._random = source
        self._left = max_preemptions
        self._steps = max(steps, 1)
        self._until_next = 0

    def choose(
        self, enabled: Enabled, last: str | None, completed: Sequence[Step] = ()
    ) -> str | None:
        names = [name for name, _ in enabled]
        if self._left is None:
            return self._random.choice(names)
        others = [name for name in names if name != last]
        if last in names and not (others and self._left and self._until_next == 0):
            self._until_next -= 1
            return last
        self._left -= last in names
        self._until_next = self._random.randrange(self._steps)
        return self._random.choice(others)


def preemptions_in(points: list[Point]) -> int:
    """How often a session was interrupted that could have gone on."""
    return sum(
        before.chosen in point.names and point.chosen != before.chosen
        for before, point in itertools.pairwise(points)
    )
