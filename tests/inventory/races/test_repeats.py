"""The explorer says nothing about sessions that went another way than they were meant to go."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import cache, caches
from django.core.cache.backends.dummy import DummyCache

from inventory.races import ImpossibleSchedule, Misuse, Run, Unrepeatable, explore, replay
from tests.inventory.races.models import Mug
from tests.inventory.races.test_counts import one_mug

pytestmark = pytest.mark.django_db(transaction=True)


def sell() -> None:
    """A lost update, in two statements."""
    mug = Mug.objects.get()
    mug.stock -= 1
    mug.save()


class NobodyClearsThis(DummyCache):
    def clear(self) -> None:
        raise ConnectionError("no server here")


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


@pytest.mark.parametrize("serial", [True, False])
def test_sessions_that_do_less_from_the_first_schedule_on(serial: bool) -> None:
    """The warm-up still had the whole of them: two cold performances, and each order twice."""
    with pytest.raises(Unrepeatable, match=r"A is at: +\(ended after 0 steps"):
        explore([limiter := Limiter(2 * 4), limiter], setup=one_mug, serial=serial)


# Caches


@pytest.fixture
def memory(settings: Any) -> Iterator[None]:
    backend = "django.core.cache.backends.locmem.LocMemCache"
    settings.CACHES = {
        name: {"BACKEND": backend, "LOCATION": f"races-{name}"} for name in ("default", "other")
    }
    yield
    for each in caches.all():
        each.clear()


def limited(alias: str) -> str:
    """A view behind a limit of twelve calls, counted in a cache."""
    caches[alias].add("calls", 0)
    if caches[alias].incr("calls") > 12:
        return "429"
    sell()
    return "ok"


@pytest.mark.parametrize("alias", ["default", "other"])
def test_caches_are_cleared_before_each_schedule(memory: None, alias: str) -> None:
    result = explore([lambda: limited(alias)] * 2, setup=one_mug, invariant=nothing_is_lost)
    assert (result.schedules, len(result.broken), result.exhaustive) == (6, 4, True)
    assert all(run.results == {"A": "'ok'", "B": "'ok'"} for run in result.runs)


def test_caches_are_left_alone_if_one_says_so(memory: None) -> None:
    with pytest.raises(Unrepeatable, match="ended after 0 steps, and returned '429'"):
        explore(
            [lambda: limited("default")] * 2,
            setup=one_mug,
            invariant=nothing_is_lost,
            clear_caches=False,
        )

    def setup() -> None:
        cache.clear()
        one_mug()

    result = explore(
        [lambda: limited("default")] * 2,
        setup=setup,
        invariant=nothing_is_lost,
        clear_caches=False,
    )
    assert (result.schedules, len(result.broken), result.exhaustive) == (6, 4, True)


def test_a_cache_filled_by_setup_is_full(memory: None) -> None:
    """Caches are cleared before ``setup``, not after it."""

    def setup() -> None:
        one_mug()
        cache.set("stock", 7)

    def read_through() -> object:
        Mug.objects.update(stock=1)
        return cache.get("stock")

    result = explore([read_through] * 2, setup=setup)
    assert all(run.returned == {"A": 7, "B": 7} for run in result.runs)


def test_a_cache_that_can_t_be_cleared(settings: Any) -> None:
    settings.CACHES = {
        "default": {"BACKEND": "tests.inventory.races.test_repeats.NobodyClearsThis"},
    }
    with pytest.raises(Misuse, match=r"cache “default” can't be cleared .*clear_caches=False"):
        explore([sell, sell], setup=one_mug)
    assert explore([sell, sell], setup=one_mug, clear_caches=False).exhaustive
