"""The explorer says nothing about sessions that went another way than they were meant to go."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from functools import partial
from operator import eq, lt
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.core.cache import cache, caches
from django.core.cache.backends.dummy import DummyCache

from inventory.races import ImpossibleSchedule, Misuse, Run, Unrepeatable, explore, replay
from inventory.races.conductor import Event, Performance
from inventory.races.repeats import lines_of
from inventory.races.server import Wait
from inventory.races.session import Step
from inventory.races.statements import Kind
from tests.inventory.races.models import Mug, Sale
from tests.inventory.races.test_counts import one_mug

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def stride(is_thorough: bool) -> int:
    """Sessions change at each call, or at every so many calls."""
    return 1 if is_thorough else 4


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


# Sessions that change at any time


def lenient() -> None:
    """Sees the same in each schedule, and writes what no invariant looks at."""
    Sale.objects.create(sku="MUG")
    Sale.objects.create(sku="MUG")


class Changing:
    """Acts as ``then`` in the calls that ``is_changed`` picks out, else as ``first``."""

    def __init__(
        self,
        first: Callable[[], object],
        then: Callable[[], object],
        is_changed: Callable[[int], bool],
    ) -> None:
        self.first = first
        self.then = then
        self.is_changed = is_changed
        self.calls = 0

    def __call__(self) -> object:
        self.calls += 1
        return (self.then if self.is_changed(self.calls) else self.first)()


def one_step_less() -> None:
    Sale.objects.create(sku="MUG")


def one_step_more() -> None:
    lenient()
    Sale.objects.filter(sku="MUG").count()


def another_answer() -> str:
    lenient()
    return "429"


def another_error() -> None:
    lenient()
    raise PermissionError


@pytest.mark.parametrize(
    ("then", "serial"),
    [
        (one_step_less, True),
        (one_step_more, True),
        (another_answer, True),
        (another_answer, False),
        (another_error, False),
    ],
)
def test_sessions_that_change_for_good(
    then: Callable[[], object], serial: bool, stride: int
) -> None:
    """At whatever call: no exploration ends with results of the one, and of the other, too."""
    whole = Changing(lenient, then, lambda call: False)
    explore([whole, lenient], setup=one_mug, serial=serial, invariant=lambda run: True)
    for change in range(4, whole.calls, stride):
        changing = Changing(lenient, then, partial(lt, change))
        with pytest.raises(Unrepeatable):
            explore([changing, lenient], setup=one_mug, serial=serial, invariant=lambda run: True)


@pytest.mark.parametrize("then", [one_step_less, one_step_more, another_answer, another_error])
def test_sessions_that_change_once(then: Callable[[], object], stride: int) -> None:
    """The performance that was different is repeated, or is the end of the exploration."""
    whole = Changing(lenient, then, lambda call: False)
    usual = explore([whole, lenient], setup=one_mug, serial=False)
    for change in range(4, whole.calls, stride):
        changing = Changing(lenient, then, partial(eq, change))
        try:
            result = explore([changing, lenient], setup=one_mug, serial=False)
        except Unrepeatable:
            continue
        assert {tuple(run.lines_to_compare()) for run in result.runs} == {
            tuple(run.lines_to_compare()) for run in usual.runs
        }


def test_memory_that_sessions_share_within_a_schedule_is_theirs() -> None:
    """It follows the schedule: a session acts differently by it, and each time in the same way."""
    seen: set[str] = set()

    def setup() -> None:
        seen.clear()
        one_mug()

    def session() -> str:
        Mug.objects.get()
        if "MUG" not in seen:
            seen.add("MUG")
            Mug.objects.update(stock=0)
            return "first"
        Mug.objects.get()
        return "second"

    result = explore([session, session], setup=setup)
    assert result.exhaustive
    assert {tuple(run.results.items()) for run in result.runs} == {
        (("A", "'first'"), ("B", "'second'")),
        (("A", "'second'"), ("B", "'first'")),
    }


def test_a_wait_that_ends_in_a_deadlock_may_be_seen_or_not() -> None:
    """On a busy machine PostgreSQL looks for a deadlock before the explorer asks who waits."""
    wait = Wait(("B",), "row lock on race_models_mug")
    steps = [Step("A", "UPDATE", "UPDATE", Kind.WRITE, frozenset(), False) for _ in range(3)]
    seen, unseen, waited = steps
    seen.sqlstate = unseen.sqlstate = "40P01"
    seen.wait = waited.wait = wait

    def lines(*events: Event) -> list[tuple[str, str]]:
        return lines_of(Performance([], list(events), {}, {}))

    assert lines(Event(seen), Event(seen, is_completion=True)) == lines(Event(unseen))
    assert len(lines(Event(waited), Event(waited, is_completion=True))) == 2


# Memory of functions, and of Django


@functools.cache
def first_mug() -> int:
    return Mug.objects.count()


@functools.cache
def a_number() -> int:
    return 7


def test_a_function_that_remembers_is_named() -> None:
    """It asks the database in the first schedule in which another's write was seen, never again.

    A function that has worked before is no cause.
    """
    a_number()

    def sees() -> None:
        if Mug.objects.get().stock == 7:
            first_mug()

    def writes_twice() -> None:
        Mug.objects.update(stock=7)
        Mug.objects.update(stock=1)

    first_mug.cache_clear()
    with pytest.raises(Unrepeatable) as failed:
        explore([writes_twice, sees], setup=one_mug)
    [note] = failed.value.__notes__
    assert "tests.inventory.races.test_repeats.first_mug" in note
    assert "a_number" not in note
    assert "cache_clear()" in note

    def setup() -> None:
        one_mug()
        first_mug.cache_clear()

    explore([writes_twice, sees], setup=setup)


def test_statements_of_the_first_time_only_are_named() -> None:
    """No schedule is cold any more: a race for the first row isn't tried, and is no pass."""

    @functools.lru_cache
    def settings_row() -> Mug:
        return Mug.objects.filter(sku="SETTINGS").first() or Mug.objects.create(
            sku="SETTINGS", stock=1
        )

    def sell() -> None:
        Sale.objects.create(sku=settings_row().sku)

    result = explore([sell, sell], setup=one_mug)
    notes = [note for note in result.notes if "the first time only" in note]
    assert [note.partition(" ran ")[0] for note in notes] == ["A", "B"]
    assert "“SELECT id, sku, stock FROM race_models_mug WHERE sku = %s" in notes[0]

    def forget() -> None:
        one_mug()
        settings_row.cache_clear()

    result = explore([sell, sell], setup=forget)
    assert not [note for note in result.notes if "the first time only" in note]


def test_content_types_are_in_memory_from_the_start() -> None:
    """A session that needs one in some schedules only makes the same statements each time."""

    def sees() -> None:
        if Mug.objects.get().stock == 7:
            ContentType.objects.get_for_model(User)

    def writes_twice() -> None:
        Mug.objects.update(stock=7)
        Mug.objects.update(stock=1)

    ContentType.objects.clear_cache()
    result = explore([writes_twice, sees], setup=one_mug)
    assert result.schedules == 3  # B reads before, between or after the two writes
    assert not any("content_type" in step.sql for run in result.runs for step in run.steps)


def test_values_that_change_for_good(stride: int) -> None:
    """The statements are the same. Where it looks like a clock, the result says so."""

    def sets(stock: int) -> None:
        Mug.objects.update(stock=stock)
        Mug.objects.filter(stock=stock).count()

    whole = Changing(partial(sets, 5), partial(sets, 6), lambda call: False)
    explore([whole, lenient], setup=one_mug)
    endings = []
    for change in range(4, whole.calls, stride):
        changing = Changing(partial(sets, 5), partial(sets, 6), partial(lt, change))
        try:
            result = explore([changing, lenient], setup=one_mug)
        except Unrepeatable as error:
            endings.append(str(error))
        else:
            assert "race_models_mug.stock" in result.notes[0]
    assert any("race_models_mug is:  sku=MUG, stock=6" in ending for ending in endings)
