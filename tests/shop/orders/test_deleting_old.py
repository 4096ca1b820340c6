"""Reservations of an order are never deleted, whatever state the order is in."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.conf import LazySettings
from django.db.models import F

from inventory.models import Reservation
from inventory.reservations import delete_ended, release, reserve
from shop import orders, tasks
from shop.models import OrderLine
from tests.conftest import MakeProduct
from tests.shop.orders.steps import place

pytestmark = pytest.mark.django_db(transaction=True)


def test_the_holds_of_a_cancelled_order_are_kept(
    make_product: MakeProduct, settings: LazySettings
) -> None:
    settings.INVENTORY_KEEP_ENDED_FOR = timedelta(days=7)
    product = make_product(5)
    left = release(reserve(product, 1, buyer="visitor").pk)
    order = place((product, 1))
    orders.cancel(order.pk)
    hold = order.lines.get().reservation
    assert Reservation.objects.get(pk=hold.pk).status == Reservation.Status.RELEASED
    Reservation.objects.update(decided_at=F("decided_at") - timedelta(days=8))
    tasks.delete_ended_reservations(0)
    assert not Reservation.objects.filter(pk=left.pk).exists()
    assert OrderLine.objects.get().reservation == hold
    assert delete_ended(timedelta(0)) == 0
