"""Finds the places of a performance at which another choice could lead to another end.

Two moves are in a race if the one comes directly before the other, and their steps concern each
other: then the other order is worth a try, and all other orders need none. From where the second
move can be made first, and which sessions must go on for that, follows from the order in which
moves depend on each other (Abdulla, Aronis, Jonsson and Sagonas, "Optimal dynamic partial order
reduction", POPL 2014: source sets).

A move is a choice with all that it set in motion: a COMMIT may complete other sessions' steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from .conductor import Performance
from .session import Step


@dataclass
class Move:
    """A choice: the step that started, and the steps of waiting sessions that it completed."""

    session: str
    steps: list[Step]
    woken: set[str] = field(default_factory=set)
    """The sessions whose wait it ended."""

    @property
    def participants(self) -> set[str]:
        return {self.session, *self.woken}

    def concerns(self, other: Move) -> bool:
        """Whether steps of different sessions concern each other."""
        return any(
            one.session != two.session and one.touch.concerns(two.touch)
            for one in self.steps
            for two in other.steps
        )


@dataclass(frozen=True)
class Reversal:
    """A race that was seen: what comes second here could come first."""

    place: int
    """The choice to make otherwise, counted from 0."""
    candidates: tuple[str, ...]
    """Sessions of which one must go on there instead, the most direct one first."""


def reversals_in(performance: Performance) -> Iterator[Reversal]:
    """The races in a performance."""
    moves = moves_of(performance)
    earlier: list[int] = []
    """For each move the moves that it depends on, as bits, also by way of others."""
    for later, move in enumerate(moves):
        known = 0
        racing = []
        for place in reversed(range(later)):
            if known >> place & 1:
                continue  # only by way of a move in between
            other = moves[place]
            meets = other.concerns(move)
            if meets or not other.participants.isdisjoint(move.participants):
                known |= earlier[place] | 1 << place
            if meets and other.session != move.session and move.session not in other.woken:
                racing.append(place)
        earlier.append(known)
        for place in racing:
            yield Reversal(place, candidates_at(place, later, moves, earlier))


def moves_of(performance: Performance) -> list[Move]:
    moves: list[Move] = []
    for event in performance.events:
        if event.is_completion:
            moves[-1].steps.append(event.step)
            moves[-1].woken.add(event.step.session)
        else:
            moves.append(Move(event.step.session, [event.step]))
    return moves


def candidates_at(place: int, later: int, moves: list[Move], earlier: list[int]) -> tuple[str, ...]:
    """The sessions that can begin what leads to the move ``later`` without the move at ``place``.

    Moves in between that depend on the move at ``place`` are left out.
    """
    needed = [k for k in range(place + 1, later) if not earlier[k] >> place & 1] + [later]
    needed_bits = sum(1 << k for k in needed)
    found = {moves[k].session for k in needed if not earlier[k] & needed_bits}
    return tuple(sorted(found, key=lambda name: name != moves[later].session))
