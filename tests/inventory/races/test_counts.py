"""How many schedules there are, and how many of them are broken, for code that everybody knows.

Most of the numbers were measured with another implementation, on PostgreSQL 15 and 18, which
agreed. Read, check and save in a transaction has four steps: before the winner's COMMIT the loser
has made none (1 way), one (4), or waits at its UPDATE (3 + 4); twice 12 is 24, and only in the two
serial ones does the loser read what the winner left.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import OperationalError, connection, transaction
from django.db.models import F

from inventory.races import Run, explore
from tests.inventory.races.models import Mug, Sale

pytestmark = pytest.mark.django_db(transaction=True)


class SoldOut(Exception):
    pass


def one_mug() -> None:
    Mug.objects.all().delete()
    Sale.objects.all().delete()
    Mug.objects.create(sku="MUG", stock=1)


def sells_at_most_one(run: Run) -> None:
    assert Sale.objects.count() <= 1, f"{Sale.objects.count()} mugs were sold of 1"


def read_check_save() -> None:
    mug = Mug.objects.get(sku="MUG")
    if mug.stock < 1:
        raise SoldOut
    mug.stock -= 1
    mug.save()
    Sale.objects.create(sku="MUG")


def in_a_transaction() -> None:
    with transaction.atomic():
        read_check_save()


def locked() -> None:
    with transaction.atomic():
        mug = Mug.objects.select_for_update().get(sku="MUG")
        if mug.stock < 1:
            raise SoldOut
        mug.stock -= 1
        mug.save()
        Sale.objects.create(sku="MUG")


def conditional_update() -> None:
    with transaction.atomic():
        if not Mug.objects.filter(sku="MUG", stock__gte=1).update(stock=F("stock") - 1):
            raise SoldOut
        Sale.objects.create(sku="MUG")


@pytest.mark.parametrize(
    ("buy", "bound", "schedules", "broken"),
    [
        (read_check_save, None, 16, 12),
        (read_check_save, 2, 10, None),
        (read_check_save, 1, 6, None),
        (in_a_transaction, None, 24, 22),
        (in_a_transaction, 2, 18, None),
        (in_a_transaction, 1, 8, None),
        (locked, None, 8, 0),
        (conditional_update, None, 6, 0),
    ],
)
def test_two_buyers_of_the_last_mug(
    buy: Callable[[], None], bound: int | None, schedules: int, broken: int | None
) -> None:
    result = explore([buy, buy], setup=one_mug, invariant=sells_at_most_one, max_preemptions=bound)
    assert result.schedules == schedules
    if broken is not None:
        assert len(result.broken) == broken
    assert result.exhaustive is (bound is None)


@pytest.mark.parametrize(
    ("buy", "schedules", "broken"),
    [(locked, 84, 0), (conditional_update, 72, 0)],
)
def test_three_buyers_of_the_last_mug(buy: Callable[[], None], schedules: int, broken: int) -> None:
    result = explore([buy, buy, buy], setup=one_mug, invariant=sells_at_most_one, serial=False)
    assert (result.schedules, len(result.broken), result.exhaustive) == (schedules, broken, True)


@pytest.mark.parametrize(
    ("bound", "schedules"), [(1, 60), pytest.param(2, 294, marks=pytest.mark.thorough)]
)
def test_three_buyers_in_a_transaction_within_a_bound(bound: int, schedules: int) -> None:
    result = explore(
        [in_a_transaction] * 3,
        setup=one_mug,
        invariant=sells_at_most_one,
        max_preemptions=bound,
        serial=False,
    )
    assert result.schedules == schedules
    assert not result.exhaustive
    assert result.complete_up_to == bound


@pytest.mark.thorough
def test_three_buyers_in_a_transaction() -> None:
    result = explore([in_a_transaction] * 3, setup=one_mug, invariant=sells_at_most_one)
    assert (result.schedules, len(result.broken)) == (1968, 1950)


def test_two_get_or_create_of_a_unique_row() -> None:
    """The loser's INSERT waits, fails, and is taken back to a savepoint: then it finds the row."""

    def none() -> None:
        Mug.objects.all().delete()

    def get_or_create() -> str:
        with transaction.atomic():
            mug, _ = Mug.objects.get_or_create(sku="MUG", defaults={"stock": 1})
        return mug.sku

    result = explore(
        [get_or_create, get_or_create],
        setup=none,
        invariant=lambda run: Mug.objects.count() == 1 and not run.raised,
    )
    assert (result.schedules, len(result.broken)) == (92, 0)
    assert "23505" in result.sqlstates


def test_opposite_lock_order() -> None:
    """Two steps each and COMMIT: of 12 schedules, 4 let one finish before the other's second."""

    def two_mugs() -> None:
        Mug.objects.all().delete()
        Mug.objects.create(sku="X", stock=5)
        Mug.objects.create(sku="Y", stock=5)

    def sell(*skus: str) -> None:
        with transaction.atomic():
            for sku in skus:
                Mug.objects.filter(sku=sku).update(stock=F("stock") - 1)

    result = explore(
        {"A": lambda: sell("X", "Y"), "B": lambda: sell("Y", "X")},
        setup=two_mugs,
        invariant=lambda run: (
            set(Mug.objects.values_list("stock", flat=True)) == {5 - len(run.returned)}
        ),
    )
    assert (result.schedules, result.deadlocks, len(result.broken)) == (12, 8, 0)
    assert result.sqlstates == {"40P01": 8}
    assert not result.not_serializable  # whom PostgreSQL ended, it ended as if never begun


@pytest.mark.parametrize("retries", [1, 2])
def test_serializable_with_retries(retries: int) -> None:
    """The retry runs when the winner is done: more retries open no more schedules.

    Each has five steps: SET, SELECT, UPDATE, INSERT, COMMIT. Before the winner's COMMIT the loser
    has made no step (1 way), one (5), two (15), or waits at its UPDATE (10 + 15); twice 46.
    """

    def buy() -> None:
        for left in reversed(range(retries + 1)):
            try:
                with transaction.atomic(), connection.cursor() as cursor:
                    cursor.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
                    read_check_save()
                return
            except OperationalError:
                if not left:
                    raise

    result = explore([buy, buy], setup=one_mug, invariant=sells_at_most_one)
    assert (result.schedules, len(result.broken)) == (92, 0)
    assert "40001" in result.sqlstates
    assert not any(
        isinstance(error, OperationalError) for run in result.runs for error in run.raised.values()
    )


def test_the_level_of_all_sessions() -> None:
    """Without a statement of its own for the level: as many schedules as at READ COMMITTED."""
    result = explore(
        [in_a_transaction] * 2,
        setup=one_mug,
        invariant=sells_at_most_one,
        isolation="serializable",
    )
    assert (result.schedules, len(result.broken)) == (24, 0)
    assert result.sqlstates == {"40001": 22}  # what was broken is refused
