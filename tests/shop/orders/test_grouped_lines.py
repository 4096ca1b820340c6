"""An order has one line for each product and price, wherever its buyer reads it."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.core import mail

from inventory.models import Product
from shop import orders
from shop.models import Order
from tests.conftest import MakeProduct
from tests.shop.orders.pages import Shopper, page_of
from tests.shop.orders.steps import APPROVE, at_bank, do_jobs

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def ada() -> Shopper:
    return Shopper("Ada")


@pytest.fixture
def order(ada: Shopper, make_product: MakeProduct) -> Order:
    """2 + 3 lamps at €10.00 and one at €12.00, reserved one after the other, with a cup between."""
    lamp = make_product(name="Lamp", price=Decimal("10.00"))
    ada.reserve(lamp, 2)
    ada.reserve(make_product(name="Cup", price=Decimal("4.00")))
    ada.reserve(lamp, 3)
    Product.objects.filter(pk=lamp.pk).update(price=Decimal("12.00"))
    placed, _ = ada.order(lamp, 1)
    return placed


def test_several_reservations_are_one_line_on_each_page(ada: Shopper, order: Order) -> None:
    assert order.lines.count() == 4
    for address in (page_of(order), f"{page_of(order)}cancellation/"):
        page = ada.get(address)
        assert [page.count(line) for line in ("5 × Lamp", "1 × Lamp", "1 × Cup")] == [1, 1, 1]
        assert [page.count(total) for total in ("€50.00", "€12.00", "€4.00")] == [1, 1, 1]
    for address in ("/orders/", "/basket/"):
        assert "5 × Lamp, 1 × Cup, 1 × Lamp" in ada.get(address)


def test_units_refunded_of_several_reservations_are_counted_together(
    ada: Shopper, order: Order
) -> None:
    at_bank(order, APPROVE)
    orders.settle(order.pk)
    first, _, third, _ = order.lines.all()  # in the order in which they were reserved
    orders.refund(order.pk, units={first.pk: 1, third.pk: 2})
    assert "5 × Lamp <small>3 taken off the order</small>" in ada.look(order)
    assert [(line.quantity, line.refunded, line.left) for line in order.grouped_lines()] == [
        (5, 3, 2),
        (1, 0, 1),
        (1, 0, 1),
    ]


def test_the_mail_has_one_line_for_each_product_and_price(order: Order) -> None:
    at_bank(order, APPROVE)
    orders.settle(order.pk)
    do_jobs("send_order_paid")
    [message] = mail.outbox
    assert message.body.count("x Lamp") == 2
    assert "5 x Lamp" in message.body
