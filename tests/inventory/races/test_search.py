"""Fewest preemptions first, each schedule once; what is left out, and what that means."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, transaction
from psycopg import IsolationLevel

from inventory.races import Misuse, RaceFound, explore, replay
from inventory.races.schedule import format_schedule, parse_schedule
from inventory.races.search import AtRandom
from tests.inventory.races.made import made_step
from tests.inventory.races.models import Engraving, Mug, Sale
from tests.inventory.races.test_counts import (
    conditional_update,
    in_a_transaction,
    locked,
    one_mug,
    read_check_save,
    sells_at_most_one,
)

pytestmark = pytest.mark.django_db(transaction=True)

REPLAYS = int(os.environ.get("RACES_REPLAYS", "25"))


def test_fewest_preemptions_first_and_each_schedule_once() -> None:
    result = explore([in_a_transaction] * 2, setup=one_mug, serial=False)
    preemptions = [run.preemptions for run in result.runs]
    assert preemptions == sorted(preemptions)
    assert Counter(run.schedule for run in result.runs).most_common(1)[0][1] == 1
    assert [run.preemptions for run in result.runs[:2]] == [0, 0]  # the serial ones


def test_a_race_is_found_with_one_preemption_and_told() -> None:
    result = explore([in_a_transaction] * 2, setup=one_mug, invariant=sells_at_most_one)
    assert result.shortest is not None
    assert result.shortest.preemptions == 1
    with pytest.raises(RaceFound) as found:
        result.assert_holds()
    message = " ".join(str(found.value).split())
    assert "22 of 24 schedules are broken (exhaustive)" in message
    assert "2 mugs were sold of 1" in message
    assert "A read stock = 1 (line 1) before B's COMMIT (line 5), and wrote stock = 0" in message
    assert "result.replay('A B*4 A*3')" in message
    explore([locked] * 2, setup=one_mug, invariant=sells_at_most_one).assert_holds()


def test_the_budget_ends_and_chance_takes_over() -> None:
    def results(seed: int) -> list[str]:
        result = explore(
            [in_a_transaction] * 2,
            setup=one_mug,
            budget=4,
            samples=6,
            seed=seed,
            reduce=False,
            serial=False,
        )
        assert not result.exhaustive
        assert result.complete_up_to == 0
        assert 4 < result.schedules <= 10
        assert result.sampled == result.schedules - 4
        assert "all with at most no preemptions, and" in result.coverage
        return [run.schedule for run in result.runs]

    assert results(1) == results(1)
    assert results(1)[:4] == results(2)[:4]
    assert results(1) != results(2)


def test_chance_draws_its_preemptions_from_the_whole_length() -> None:
    """Of two sessions of 50 steps. Drawn step by step, they would all be among the first ones."""
    places = [place for seed in range(40) for place in preempted_at_random(seed, bound=2)]
    assert all(any(low <= place < low + 20 for place in places) for low in range(0, 100, 20))


def preempted_at_random(seed: int, *, bound: int) -> list[int]:
    """The places at which a session is interrupted that could go on."""
    left = {"A": 50, "B": 50}
    last: str | None = None
    found = []
    at_random = AtRandom(random.Random(seed), bound, steps=50)
    for place in range(100):
        names = [name for name in left if left[name]]
        chosen = at_random.choose([(name, made_step(name, "SELECT 1")) for name in names], last)
        assert chosen is not None
        if chosen != last and last in names:
            found.append(place)
        left[chosen] -= 1
        last = chosen
    assert len(found) <= bound
    return found


def test_the_first_broken_schedule_is_enough() -> None:
    result = explore([in_a_transaction] * 2, setup=one_mug, invariant=sells_at_most_one, first=True)
    assert [bool(run.broken) for run in result.runs] == [False, False, True]
    assert not result.exhaustive
    assert (result.ended_by, result.coverage) == ("first", "stopped at the first broken one")


def test_nothing_is_broken_so_the_search_goes_on_to_the_end() -> None:
    result = explore([locked] * 2, setup=one_mug, invariant=sells_at_most_one, first=True)
    assert (result.schedules, result.exhaustive, result.ended_by) == (8, True, None)


def test_chance_stops_at_the_first_broken_schedule_too() -> None:
    result = explore(
        [in_a_transaction] * 2,
        setup=one_mug,
        invariant=sells_at_most_one,
        first=True,
        budget=2,
        reduce=False,
    )
    assert (len(result.broken), result.ended_by) == (1, "first")
    assert result.runs[-1].broken


def test_the_time_is_over() -> None:
    """One schedule is always performed, and the result says what was covered."""
    result = explore([in_a_transaction] * 2, setup=one_mug, seconds=0.000001)
    assert (result.schedules, result.ended_by, result.exhaustive) == (1, "seconds", False)
    assert result.coverage == "not even all without preemption; then the time was over"
    with pytest.raises(Misuse, match="seconds must be more than 0, not 0"):
        explore([in_a_transaction] * 2, setup=one_mug, seconds=0)


@pytest.mark.parametrize(
    ("options", "is_reduced"),
    [
        ({}, False),  # at most 70 schedules
        ({"budget": 69}, True),
        ({"budget": 69, "reduce": False}, False),
        ({"budget": 69, "max_preemptions": 1}, False),  # the two don't go together
        ({"budget": 69, "isolation": "serializable"}, False),
        ({"reduce": True}, True),
    ],
)
def test_equal_schedules_are_left_out_where_all_would_be_too_many(
    options: dict[str, Any], is_reduced: bool
) -> None:
    result = explore([in_a_transaction] * 2, setup=one_mug, first=True, serial=False, **options)
    assert result.reduced is is_reduced


def test_schedules_are_written_and_read() -> None:
    choices = ("A", "A", "A", "B", "B", "A", "buyer", "buyer")
    assert format_schedule(choices) == "A*3 B*2 A buyer*2"
    assert parse_schedule("A*3 B*2 A buyer*2", ["A", "B", "buyer"]) == choices


# The same again


@pytest.mark.parametrize("buy", [in_a_transaction, locked])
def test_a_schedule_is_the_same_however_often_it_is_replayed(buy: Callable[[], None]) -> None:
    """RACES_REPLAYS=1000 for a thousand of each."""
    result = explore([buy] * 2, setup=one_mug, invariant=sells_at_most_one, serial=False)
    run = result.most_instructive
    for _ in range(REPLAYS):
        again = result.replay(run.schedule)
        assert again.lines_to_compare() == run.lines_to_compare()


def two_mugs() -> None:
    Engraving.objects.all().delete()
    Mug.objects.all().delete()
    Mug.objects.create(pk=1, sku="X", stock=5)
    Mug.objects.create(pk=2, sku="Y", stock=5)


def sell(*keys: int) -> None:
    with transaction.atomic():
        for key in keys:
            Mug.objects.filter(pk=key).update(stock=1)


def lock_all_by_one_statement() -> None:
    """In the order of their keys: an UPDATE takes rows as they lie on the disk."""
    with transaction.atomic():
        list(Mug.objects.select_for_update().order_by("pk"))


def lock_and_sell(locked: int, sold: int) -> None:
    with transaction.atomic():
        Mug.objects.select_for_update().get(pk=locked)
        Mug.objects.filter(pk=sold).update(stock=1)


def engrave_and_sell(engraved: int, sold: int) -> None:
    """COMMIT looks at the engraved mug, and waits for whoever has locked it."""
    with transaction.atomic():
        Engraving.objects.create(mug_id=engraved)
        Mug.objects.filter(pk=sold).update(stock=1)


@pytest.mark.parametrize(
    ("schedule", "sessions", "loser"),
    [
        ("A B A B", {"A": lambda: sell(1, 2), "B": lambda: sell(2, 1)}, "B"),
        ("A B*2 A", {"A": lambda: sell(1, 2), "B": lambda: sell(2, 1)}, "A"),
        (
            "B*2 A*2 B",
            {"A": lambda: lock_and_sell(1, 2), "B": lambda: engrave_and_sell(1, 2)},
            "B",
        ),
        (  # A waits for B, and then for C in the same statement
            "B C A B C",
            {"A": lock_all_by_one_statement, "B": lambda: sell(1), "C": lambda: sell(2, 1)},
            "C",
        ),
    ],
    ids=["second", "first", "at COMMIT", "in its second wait"],
)
def test_the_last_one_to_wait_loses_a_deadlock(
    schedule: str, sessions: dict[str, Callable[[], None]], loser: str
) -> None:
    """Everybody else has looked for a deadlock before, and found none."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        if cursor.fetchone() != (True,):
            pytest.skip("PostgreSQL reports to a superuser alone that a session has looked")
    for _ in range(5):
        run = replay(schedule, sessions, setup=two_mugs)
        assert set(run.raised) == {loser}


# Equal schedules left out


def voucher_like() -> None:
    with transaction.atomic():
        if Sale.objects.count() < 1:
            Sale.objects.create(sku="MUG")


def two_tables() -> None:
    with transaction.atomic():
        Sale.objects.create(sku="MUG")
        mug = Mug.objects.get()
        Mug.objects.filter(pk=mug.pk).update(stock=mug.stock - 1)


def advisory() -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(7)")
        read_check_save()


@pytest.mark.parametrize(
    "sessions",
    [
        [read_check_save] * 2,
        [in_a_transaction] * 2,
        [locked] * 2,
        [conditional_update] * 2,
        [voucher_like] * 2,
        [two_tables] * 2,
        [advisory] * 2,
        [in_a_transaction, conditional_update],
        [in_a_transaction, read_check_save],
        [locked, two_tables],
    ],
)
def test_leaving_equal_schedules_out_loses_no_outcome(sessions: list[Callable[[], None]]) -> None:
    everything = explore(sessions, setup=one_mug, invariant=sells_at_most_one)
    reduced = explore(sessions, setup=one_mug, invariant=sells_at_most_one, reduce=True)
    assert set(reduced.outcomes) == set(everything.outcomes)
    assert reduced.schedules <= everything.schedules
    assert bool(reduced.broken) == bool(everything.broken)
    assert everything.exhaustive
    assert reduced.exhaustive
    assert reduced.coverage == "exhaustive, equal ones left out"


def test_a_reduced_search_that_ends_early_claims_little() -> None:
    result = explore([locked] * 2, setup=one_mug, reduce=True, budget=1, samples=0)
    assert result.coverage == "not all, equal ones left out"
    with pytest.raises(Misuse, match="Too few schedules for a pass: 1 schedule"):
        result.assert_serializable()
    result = explore([locked] * 2, setup=one_mug, reduce=True, budget=5, samples=0)
    assert {run.order[0] for run in result.runs} == {"A", "B"}
    result.assert_serializable()


def at_a_level_of_its_own() -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        voucher_like()


def test_at_another_level_equal_schedules_may_have_other_ends() -> None:
    with pytest.raises(Misuse, match="READ COMMITTED only, and a session sets another level"):
        explore([at_a_level_of_its_own] * 2, setup=one_mug, reduce=True)
    with pytest.raises(Misuse, match="READ COMMITTED only, and this is serializable"):
        explore([voucher_like] * 2, setup=one_mug, reduce=True, isolation="serializable")
    result = explore([at_a_level_of_its_own] * 2, setup=one_mug, budget=2, samples=0)
    assert not result.reduced


def test_the_level_that_djangos_settings_ask_for(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"isolation_level": IsolationLevel.SERIALIZABLE}
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", options)
    monkeypatch.setattr(connection, "isolation_level", IsolationLevel.SERIALIZABLE)
    connection.close()
    try:
        with pytest.raises(Misuse, match="this is serializable"):
            explore([voucher_like] * 2, setup=one_mug, reduce=True)
    finally:
        connection.close()


def test_far_fewer_schedules_for_the_same_two_outcomes() -> None:
    """Six: who reads before whose COMMIT, and who writes first."""
    reduced = explore([in_a_transaction] * 2, setup=one_mug, reduce=True, serial=False)
    assert reduced.schedules == 6


@pytest.mark.thorough
def test_three_buyers_reduced() -> None:
    everything = explore([in_a_transaction] * 3, setup=one_mug)
    reduced = explore([in_a_transaction] * 3, setup=one_mug, reduce=True)
    assert set(reduced.outcomes) == set(everything.outcomes)
    assert len(reduced.outcomes) == 7
    assert reduced.schedules < 100
