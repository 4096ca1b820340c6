"""The explorer says nothing about sessions that went another way than they were meant to go."""

from __future__ import annotations

import pytest

from inventory.races import ImpossibleSchedule, Run, Unrepeatable, explore, replay
from tests.inventory.races.models import Mug
from tests.inventory.races.test_counts import one_mug

pytestmark = pytest.mark.django_db(transaction=True)


def sell() -> None:
    """A lost update, in two statements."""
    mug = Mug.objects.get()
    mug.stock -= 1
    mug.save()


class Limiter:
    """Lets so many calls through, and answers the rest without SQL, as a counter in memory does."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def __call__(self) -> str:
        self.left -= 1
        if self.left < 0:
            return "429"
        sell()
        return "ok"


def nothing_is_lost(run: Run) -> bool:
    return "429" in run.returned.values() or Mug.objects.get().stock == -1


# Sessions that do less than before


def calls_of_an_exploration() -> int:
    limiter = Limiter(10_000)
    explore([limiter, limiter], setup=one_mug, serial=False)
    return 10_000 - limiter.left


def test_sessions_that_end_before_the_choice_that_is_new() -> None:
    """Without a word the branches that are left would be performed by sessions that do nothing."""
    limiter = Limiter(calls_of_an_exploration() - 4)
    ended = r"A is at: +\(ended after 0 steps, and returned '429'\)"
    with pytest.raises(Unrepeatable, match=ended):
        explore([limiter, limiter], setup=one_mug, invariant=nothing_is_lost, serial=False)


def test_a_replay_of_sessions_that_do_less() -> None:
    limiter = Limiter(10_000)
    result = explore([limiter, limiter], setup=one_mug, invariant=nothing_is_lost)
    assert result.shortest is not None
    limiter.left = 0
    for schedule in (result.shortest, result.shortest.schedule):
        with pytest.raises(Unrepeatable, match=r"A is at: +\(ended after 0 steps"):
            result.replay(schedule)


def test_a_schedule_with_more_steps_than_the_sessions_make() -> None:
    with pytest.raises(ImpossibleSchedule, match="all sessions had ended after 4"):
        replay("A*2 B*5", [sell, sell], setup=one_mug)
