"""Races of real shops, against gunicorn: real requests at the same instant."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.db.models import Sum

from inventory import monitor
from inventory.models import Reservation
from shop import orders
from shop.models import DemoBankCharge, DemoBankRefund, Order, Payment
from shop.orders import refunds
from shop.payments import demo
from tests.conftest import MakeProduct
from tests.http.conftest import Served
from tests.http.shopper import ADDRESS, Page, Shopper

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


def together(*calls: Callable[[], Any]) -> list[Any]:
    """Make all calls at the same instant; return the value of each."""
    gate = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        gate.wait(30)
        try:
            return call()
        finally:
            connection.close()  # a call may ask the database itself

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def statuses(pages: Sequence[Page]) -> list[int]:
    return sorted(page.status for page in pages)


def kept_by_bank() -> Decimal:
    charged = DemoBankCharge.objects.filter(state="APPROVED").aggregate(sum=Sum("amount"))["sum"]
    given_back = DemoBankRefund.objects.aggregate(sum=Sum("amount"))["sum"]
    return (charged or Decimal(0)) - (given_back or Decimal(0))


def carry_out_refunds() -> None:
    for refund in refunds.due_refunds():
        refunds.carry_out(refund)


def test_ten_browsers_after_the_last_unit(served: Served, make_product: MakeProduct) -> None:
    product = make_product(1)
    shoppers = [Shopper(served.url, number) for number in range(10)]
    forms = [shopper.get(f"/products/{product.slug}/").form("/holds/") for shopper in shoppers]
    pages = together(
        *(
            lambda shopper=shopper, form=form: shopper.send(form, quantity="1")
            for shopper, form in zip(shoppers, forms, strict=True)
        )
    )
    assert statuses(pages) == [200] + [409] * 9
    assert Reservation.objects.units() == 1


def test_forty_new_cookies_from_one_address(make_product: MakeProduct) -> None:
    """Each cookie is a buyer; two processes serve them."""
    product = make_product(100)
    shop = Served({"WEB_CONCURRENCY": "2", "MOST_UNITS_PER_ADDRESS": "10"})
    try:
        shop.start_web()
        shoppers = [Shopper(shop.url, number) for number in range(40)]
        forms = [shopper.get(f"/products/{product.slug}/").form("/holds/") for shopper in shoppers]
        pages = together(
            *(
                lambda shopper=shopper, form=form: shopper.send(form, quantity="2")
                for shopper, form in zip(shoppers, forms, strict=True)
            )
        )
    finally:
        shop.stop()
    assert statuses(pages) == [200] * 5 + [409] * 35
    assert Reservation.objects.units() == 10


def test_one_buyer_takes_the_same_item_in_two_tabs(
    served: Served, make_product: MakeProduct
) -> None:
    product = make_product(5)
    shopper = Shopper(served.url, 1)
    tabs = [shopper.get(f"/products/{product.slug}/").form("/holds/") for _ in range(2)]
    pages = together(*(lambda tab=tab: shopper.send(tab, quantity="3") for tab in tabs))
    assert statuses(pages) == [200, 409]
    assert Reservation.objects.units() == 3


def test_every_button_clicked_twice_at_the_same_instant(
    served: Served, make_product: MakeProduct
) -> None:
    product = make_product(5)
    shopper = Shopper(served.url, 1)

    form = shopper.get(f"/products/{product.slug}/").form("/holds/")
    reserved = together(*[lambda: shopper.send(form, quantity="1")] * 3)
    assert statuses(reserved) == [200, 200, 200]
    assert Reservation.objects.count() == 1

    form = shopper.get("/checkout/").form("/checkout/")
    who = {"name": "Ada", "email": "ada@example.org", **ADDRESS}
    at_bank = together(*[lambda: shopper.send(form, **who)] * 3)
    assert statuses(at_bank) == [200, 200, 200]
    assert len({page.url for page in at_bank}) == 1
    assert (Order.objects.count(), Payment.objects.count()) == (1, 1)

    paid = together(*[lambda: shopper.pay(at_bank[0])] * 3)
    assert statuses(paid) == [200, 200, 200]
    order = Order.objects.get()
    assert order.state == Order.State.PAID
    assert kept_by_bank() == order.total == order.kept()
    assert monitor.state_of(product.pk).sold == 1


def test_one_e_mail_address_in_two_browsers_and_a_limit_per_customer(
    served: Served, make_product: MakeProduct
) -> None:
    product = make_product(9, max_per_buyer=2)
    forms = []
    shoppers = [Shopper(served.url, number) for number in range(2)]
    for shopper in shoppers:
        shopper.reserve(product.slug, 2)
        forms.append(shopper.get("/checkout/").form("/checkout/"))
    pages = together(
        *(
            lambda shopper=shopper, form=form, email=email: shopper.send(
                form, name="Ada", email=email, **ADDRESS
            )
            for shopper, form, email in zip(
                shoppers, forms, ["ada@example.org", "Ada@Example.ORG"], strict=True
            )
        )
    )
    assert statuses(pages) == [200, 409]
    [limited] = [page for page in pages if page.status == 409]
    assert f"At most 2 of {product.name} per customer" in limited.html
    assert Order.objects.count() == 1


def deliver(served: Served, payment: Payment) -> int:
    """Deliver the bank's signed message about the payment; return the status of the answer."""
    body = json.dumps({"id": f"event of {payment.pk}", "payment": str(payment.key)}).encode()
    headers = {"Content-Type": "application/json", demo.SIGNATURE: demo.sign(body)}
    request = urllib.request.Request(f"{served.url}/payments/demo/events/", body, headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return int(answer.status)


def test_the_banks_message_and_the_buyers_return_at_the_same_instant(
    served: Served, make_product: MakeProduct
) -> None:
    product = make_product(1)
    shopper = Shopper(served.url, 1)
    shopper.reserve(product.slug)
    shopper.pay(shopper.check_out(), "lose-answer")
    order, payment = Order.objects.get(), Payment.objects.get()
    assert order.state == Order.State.PENDING
    results = together(
        lambda: deliver(served, payment),
        lambda: shopper.get(f"/orders/{order.token}/").status,
        lambda: deliver(served, payment),
        lambda: shopper.get(f"/orders/{order.token}/").status,
    )
    assert results == [200] * 4
    order.refresh_from_db()
    assert order.state == Order.State.PAID
    assert kept_by_bank() == order.total
    assert monitor.state_of(product.pk).sold == 1


def test_an_order_is_cancelled_in_two_tabs_while_it_is_paid(
    served: Served, make_product: MakeProduct
) -> None:
    product = make_product(1)
    shopper = Shopper(served.url, 1)
    shopper.reserve(product.slug)
    bank = shopper.check_out()
    order = Order.objects.get()
    form = shopper.get(f"/orders/{order.token}/cancellation/").form("/cancellation/")
    pages = together(
        lambda: shopper.send(form), lambda: shopper.pay(bank), lambda: shopper.send(form)
    )
    assert statuses(pages) == [200, 200, 200]
    orders.settle(order.pk)
    carry_out_refunds()
    order.refresh_from_db()
    assert order.state == Order.State.CANCELLED
    assert kept_by_bank() == order.kept() == 0
    state = monitor.state_of(product.pk)
    assert (state.available, state.held, state.sold) == (1, 0, 0)
