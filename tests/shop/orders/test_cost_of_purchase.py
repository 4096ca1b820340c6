"""One purchase in statements: everything that goes to the database, BEGIN and COMMIT included.

Each is a round trip. The demo bank's own are counted, too.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from inventory.models import Product, Reservation
from inventory.reservations import reserve
from shop import orders
from shop.models import Order
from shop.payments import demo
from shop.payments.demo import DemoBank
from tests.conftest import MakeProduct
from tests.shop.orders.pages import Shopper
from tests.shop.orders.steps import APPROVE, DECLINE, at_bank, go_to_bank, order_holds, place

pytestmark = pytest.mark.django_db(transaction=True)

# Hold: read the product, take the units.
HOLD = 2
# Place: BEGIN, lock the key, read the products, prolong the holds, write the order and its lines,
# COMMIT.
PLACE = 7
# Start: BEGIN, lock the order, read its lines, prolong the holds, write the payment, COMMIT; the
# bank opens the charge; note its reference.
START = 8
# Choose at the bank: BEGIN, decide, queue the message, COMMIT.
CHOOSE = 4
# Settle: read the payments, ask the bank; BEGIN, lock the order, record the payment, sell the
# units, record the order, queue the e-mails, COMMIT.
SETTLE = 9


def statements(call: Callable[[], Any]) -> tuple[Any, list[str]]:
    """The call's result, and its statements."""
    with CaptureQueriesContext(connection) as captured:
        result = call()
    return result, [query["sql"] for query in captured]


def hold(product: Product) -> Reservation:
    return reserve(
        Product.objects.get(pk=product.pk), 1, buyer="A", idempotency_key=str(uuid.uuid4())
    )


@pytest.mark.parametrize("lines", [1, 2, 10])
def test_a_purchase_takes_30_statements_and_two_more_for_each_further_product(
    make_product: MakeProduct, settings: Any, lines: int
) -> None:
    settings.INVENTORY_STRATEGY = "combined"
    settings.MANAGERS = [("", "managers@example.org")]
    products = [make_product() for _ in range(lines)]
    spent = {}
    holds, spent["hold"] = statements(lambda: [hold(product) for product in products])
    order, spent["place"] = statements(lambda: order_holds(holds))
    page, spent["start"] = statements(lambda: go_to_bank(order))
    reference = page.rstrip("/").split("/")[-1]
    _, spent["choose"] = statements(lambda: demo.choose(reference, demo.Choice.APPROVE))
    paid, spent["settle"] = statements(lambda: orders.settle(order.pk))
    assert paid.state == Order.State.PAID
    most = {
        "hold": HOLD * lines,
        "place": PLACE,
        "start": START,
        "choose": CHOOSE,
        "settle": SETTLE,
    }
    for step, seen in spent.items():
        assert len(seen) <= most[step], "\n".join([step, *seen])
    assert HOLD + PLACE + START + CHOOSE + SETTLE == 30


# The pages on the way


@pytest.mark.parametrize("lines", [1, 10])
def test_the_pages_on_the_way_take_few_statements_for_any_number_of_lines(
    make_product: MakeProduct, lines: int
) -> None:
    ada = Shopper("Ada")
    for _ in range(lines):
        ada.reserve(make_product())
    ada.get("/basket/")  # it shows the notices
    _, basket = statements(lambda: ada.get("/basket/"))
    form, checkout = statements(ada.checkout_form)
    answer, sent = statements(lambda: ada.check_out(form))
    _, bank = statements(lambda: ada.get(answer["Location"]))
    _, chosen = statements(lambda: ada.choose(answer["Location"]))
    page, settled = statements(lambda: ada.look(Order.objects.get()))
    assert "Paid. Thank you!" in page
    _, again = statements(lambda: ada.look(Order.objects.get()))
    spent = {
        "basket": basket,
        "checkout": checkout,
        "POST checkout": sent,
        "bank": bank,
        "POST bank": chosen,
        "order, settled": settled[1:],  # without our own
        "order, again": again[1:],
    }
    most = {
        "basket": 3,  # the holds, their products, an order that waits
        "checkout": 3,
        "POST checkout": PLACE + START,
        "bank": 1,
        "POST bank": CHOOSE,
        "order, settled": 5 + SETTLE,  # as below, and the payments once more
        "order, again": 4,  # the order, its payments, its lines, the basket's units
    }
    for name, seen in spent.items():
        assert len(seen) <= most[name], "\n".join([name, *seen])


def paid(order: Order) -> None:
    at_bank(order, APPROVE)
    orders.settle(order.pk)


def shipped(order: Order) -> None:
    paid(order)
    orders.ship(order.pk)


def cancelled(order: Order) -> None:
    orders.cancel(order.pk)


def given_back(order: Order) -> None:
    paid(order)
    orders.refund(order.pk)


def declined(order: Order) -> None:
    at_bank(order, DECLINE)
    orders.settle(order.pk)


@pytest.mark.parametrize("state", [paid, shipped, cancelled, given_back, declined, None])
def test_the_page_of_an_order_whose_state_cannot_have_changed_asks_nobody(
    client: Client,
    make_product: MakeProduct,
    monkeypatch: pytest.MonkeyPatch,
    state: Callable[[Order], None] | None,
) -> None:
    order = place((make_product(), 1))
    if state is not None:
        state(order)

    def ask(*_: object) -> None:
        raise AssertionError("The provider was asked.")

    for question in ("status", "statement", "start"):
        monkeypatch.setattr(DemoBank, question, ask)
    for _ in range(2):
        page, seen = statements(lambda: client.get(reverse("order", args=[order.token])))
        assert page.status_code == HTTPStatus.OK
        assert [each for each in seen if not each.startswith("SELECT")] == []
        assert not any("FOR NO KEY UPDATE" in each for each in seen)


def test_the_page_of_an_order_that_may_have_been_paid_asks(
    client: Client, make_product: MakeProduct
) -> None:
    order = place((make_product(), 1))
    at_bank(order, APPROVE)
    page = client.get(reverse("order", args=[order.token]))
    assert "Paid. Thank you!" in page.content.decode()
