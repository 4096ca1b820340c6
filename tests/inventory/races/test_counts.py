"""How many schedules there are, and how many of them are broken, for code that everybody knows.

The numbers come from another implementation, measured on PostgreSQL 15 and 18; some can be
worked out by hand, which the comments do.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import transaction
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
    print(result.seconds / result.schedules, result.coverage)
