"""Reservations that a restored database lacks: they take no units until they are taken again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from inventory.exceptions import InsufficientStock, ReservationChanged
from inventory.models import Product, Reservation
from inventory.reservations import (
    confirm,
    confirm_or_retake,
    let_lapse,
    record_lapsed,
    release,
    reserve,
)
from tests.concurrency import at_once
from tests.conftest import MakeProduct

pytestmark = pytest.mark.django_db(transaction=True)


def lost(product: Product, quantity: int = 2, **fields: Any) -> Reservation:
    values = {
        "id": uuid4(),
        "product": product,
        "quantity": quantity,
        "unit_price": product.price,
        "buyer": "A",
        "strategy": "combined",
        "expires_at": timezone.now(),
        **fields,
    }
    return Reservation(**values)


def stock_of(product: Product) -> int:
    product.refresh_from_db()
    return product.stock


def status_of(reservation: Reservation) -> tuple[str, int, int]:
    now = Reservation.objects.get(pk=reservation.pk)
    return (now.status, now.quantity, now.returned)


def test_it_takes_no_units(make_product: MakeProduct) -> None:
    pot = make_product(3)
    each = lost(pot)
    record_lapsed([each])
    assert (status_of(each), stock_of(pot)) == (("EXPIRED", 2, 0), 3)
    confirm_or_retake([each.pk])
    assert (status_of(each), stock_of(pot)) == (("SOLD", 2, 0), 1)


def test_units_that_came_back_are_not_taken(make_product: MakeProduct) -> None:
    pot = make_product(1)
    each = lost(pot, 3)
    record_lapsed([each])
    with pytest.raises(InsufficientStock):
        confirm_or_retake([each.pk], returned={each.pk: 1})
    confirm_or_retake([each.pk], returned={each.pk: 2})
    assert (status_of(each), stock_of(pot)) == (("SOLD", 3, 2), 0)


def test_nothing_is_taken_of_what_came_back_in_whole(make_product: MakeProduct) -> None:
    pot = make_product(0)
    each = lost(pot, 3)
    record_lapsed([each])
    confirm_or_retake([each.pk], returned={each.pk: 3})
    assert (status_of(each), stock_of(pot)) == (("SOLD", 3, 3), 0)


@pytest.mark.parametrize("ended", [False, True])
def test_it_is_on_record_with_other_units(make_product: MakeProduct, ended: bool) -> None:
    pot = make_product(5, max_per_buyer=4)
    hold = reserve(pot, 3, buyer="A")
    if ended:
        release(hold.pk)
    record_lapsed([lost(pot, 2, id=hold.pk)])
    assert (status_of(hold), stock_of(pot)) == (("EXPIRED", 2, 0), 5)


@pytest.mark.parametrize("other", ["buyer", "product", "price", "sold"])
def test_another_one_is_left_alone(make_product: MakeProduct, other: str) -> None:
    pot, pan = make_product(5), make_product(5)
    hold = reserve(pot, 2, buyer="A")
    if other == "sold":
        confirm(hold.pk)
    again = lost(pan if other == "product" else pot, id=hold.pk)
    if other == "buyer":
        again.buyer = "B"
    elif other == "price":
        again.unit_price += 1
    before = status_of(hold)
    new = lost(pan)
    with pytest.raises(ReservationChanged):
        record_lapsed([new, again])
    assert (status_of(hold), stock_of(pot), stock_of(pan)) == (before, 3, 5)
    assert not Reservation.objects.filter(pk=new.pk).exists()


def test_it_races_with_the_confirmation_of_the_hold(make_product: MakeProduct) -> None:
    for _ in range(10):
        pot = make_product(2)
        hold = reserve(pot, 2, buyer="A")
        at_once([lambda: confirm(hold.pk), lambda: record_lapsed([lost(pot, id=hold.pk)])])
        sold = status_of(hold)[0] == "SOLD"
        assert stock_of(pot) == (0 if sold else 2)


def test_holds_lapse_at_once(make_product: MakeProduct) -> None:
    pot = make_product(2)
    hold, sale = reserve(pot, 1, buyer="A"), reserve(pot, 1, buyer="B")
    confirm(sale.pk)
    assert let_lapse([hold.pk, sale.pk]) == 1
    assert reserve(pot, 1, buyer="C").status == "HELD"
    assert status_of(hold)[0] == "EXPIRED"
    assert status_of(sale)[0] == "SOLD"


def test_no_hold_gets_longer(make_product: MakeProduct) -> None:
    hold = reserve(make_product(1), 1, buyer="A")
    ended = timezone.now() - timedelta(hours=1)
    Reservation.objects.update(expires_at=ended)
    let_lapse([hold.pk])
    hold.refresh_from_db()
    assert hold.expires_at == ended
