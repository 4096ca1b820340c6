"""Released and lapsed reservations are deleted after a while; no others ever are."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction
from django.db.models import F

from inventory.models import Product, Reservation
from inventory.reservations import confirm, delete_ended, expire_lapsed, release, reserve
from tests.concurrency import at_once, lapse
from tests.conftest import MakeProduct

pytestmark = pytest.mark.django_db(transaction=True)

A_WEEK = timedelta(days=7)


def let_go(product: Product, number: int) -> list[Reservation]:
    return [release(reserve(product, 1, buyer=f"buyer {n}").pk) for n in range(number)]


def age(days: int) -> None:
    """Date all decisions so far this number of days back."""
    Reservation.objects.update(decided_at=F("decided_at") - timedelta(days=days))


def test_only_what_came_to_nothing_and_is_old_goes(make_product: MakeProduct) -> None:
    product = make_product(20)
    sold = confirm(reserve(product, 1, buyer="A").pk)
    let_go(product, 1)
    lapse(reserve(product, 1, buyer="B"))
    assert expire_lapsed() == (1, 1)
    age(days=8)
    recent = let_go(product, 1)
    held = reserve(product, 1, buyer="C")
    assert delete_ended(A_WEEK) == 2
    assert {each.pk for each in Reservation.objects.all()} == {sold.pk, held.pk, recent[0].pk}
    assert delete_ended(A_WEEK) == 0


@pytest.mark.parametrize("number", [3, 4, 5])
def test_batch_after_batch_until_all_are_gone(make_product: MakeProduct, number: int) -> None:
    let_go(make_product(5), number)
    age(days=8)
    assert delete_ended(A_WEEK, batch=2) == number
    assert not Reservation.objects.exists()


def test_two_at_once_delete_each_one_once(make_product: MakeProduct) -> None:
    let_go(make_product(5), 12)
    age(days=8)
    assert sum(at_once([lambda: delete_ended(A_WEEK, batch=2)] * 3)) == 12


def test_what_somebody_is_just_making_a_sale_is_left_alone(make_product: MakeProduct) -> None:
    product = make_product(5)
    [gone, _] = let_go(product, 2)
    age(days=8)
    with transaction.atomic():
        Reservation.objects.select_for_update().get(pk=gone.pk)  # as a late payment has it
        assert at_once([lambda: delete_ended(A_WEEK)]) == [1]
    assert Reservation.objects.get() == gone
