"""Two hundred buyers after twenty units, through real pages: gunicorn, cookies, forms, the bank."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.db.models import F, Sum

from inventory import monitor, reservations
from inventory.models import Product, Reservation
from shop import orders
from shop.models import DemoBankCharge, DemoBankRefund, Order, OrderLine
from shop.orders import refunds
from tests.conftest import MakeProduct
from tests.http.conftest import Served
from tests.http.shopper import Page, Shopper

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

BUYERS, UNITS, AT_ONCE = 200, 20, 40
REFUSALS = ("are in baskets at the moment", "is sold out")


def sell_out(served: Served, product: Product) -> tuple[list[Page], list[Shopper]]:
    """Let all buyers take all steps, many at a time; return the last page of each."""
    shoppers = [Shopper(served.url, number) for number in range(BUYERS)]
    together = threading.Barrier(AT_ONCE)

    def buy(shopper: Shopper) -> Page:
        if shopper.number < AT_ONCE:
            together.wait(60)
        return shopper.buy(product.slug)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(buy, shoppers)), shoppers


def assert_money_and_goods_agree(product: Product) -> None:
    """The bank has kept the price of the goods sold, and of their shipping."""
    charged = sum_of(DemoBankCharge.objects.filter(state="APPROVED").aggregate(Sum("amount")))
    given_back = sum_of(DemoBankRefund.objects.aggregate(Sum("amount")))
    paid = Order.objects.filter(state=Order.State.PAID)
    assert charged - given_back == sum_of(paid.aggregate(Sum("total")))
    assert monitor.check() == []
    ordered = OrderLine.objects.filter(order__in=paid).aggregate(Sum("quantity"))
    assert monitor.state_of(product.pk).sold == sum_of(ordered)


def sum_of(aggregate: dict[str, Decimal | int | None]) -> Decimal | int:
    [value] = aggregate.values()
    return value or 0


def test_200_buyers_on_20_units(served: Served, make_product: MakeProduct) -> None:
    product = make_product(UNITS)
    pages, shoppers = sell_out(served, product)

    statuses = {status for shopper in shoppers for status in shopper.statuses}
    assert statuses == {200, 409}  # nobody saw an error
    paid = [page for page in pages if "/orders/" in page.url]
    refused = [page for page in pages if page.status == 409]
    assert len(paid) == UNITS
    assert len(refused) == BUYERS - UNITS
    assert all(any(words in page.html for words in REFUSALS) for page in refused)

    assert Order.objects.filter(state=Order.State.PAID).count() == UNITS
    assert Order.objects.count() == UNITS
    assert not Reservation.objects.held().exists()
    state = monitor.state_of(product.pk)
    assert (state.available, state.held, state.sold) == (0, 0, UNITS)
    assert_money_and_goods_agree(product)


def test_processes_are_killed_in_the_middle_of_it(
    served: Served, make_product: MakeProduct
) -> None:
    product = make_product(UNITS)
    killing = threading.Timer(0, kill_when_some_are_sold, [served])
    killing.start()
    pages, _ = sell_out(served, product)
    killing.join()

    served.start_the_worker()
    end_all_times()
    do_the_workers_jobs()
    assert not Order.objects.pending().exists()
    assert not Reservation.objects.held().exists()
    assert_money_and_goods_agree(product)
    # Every buyer who was shown a paid order has it; the other units are on sale again.
    shown_paid = [page for page in pages if "/orders/" in page.url and page.status == 200]
    paid = Order.objects.filter(state=Order.State.PAID)
    assert len(shown_paid) <= paid.count() <= UNITS
    state = monitor.state_of(product.pk)
    assert state.available + state.sold == UNITS


def kill_when_some_are_sold(served: Served) -> None:
    """SIGKILL one web worker and the background worker, as soon as a few orders are paid."""
    pause = threading.Event()
    while not Order.objects.filter(state=Order.State.PAID)[3:4]:
        pause.wait(0.02)
    connection.close()
    os.kill(served.web_workers()[0].pid, signal.SIGKILL)
    os.killpg(served.worker.pid, signal.SIGKILL)


def end_all_times() -> None:
    """The time of the holds and of the payments, and the bank's own time."""
    past = timedelta(days=1)
    Reservation.objects.held().update(expires_at=F("expires_at") - past)
    DemoBankCharge.objects.filter(state="OPEN").update(expires_at=F("expires_at") - past)


def do_the_workers_jobs() -> None:
    for order in orders.unsettled_orders():
        orders.settle(order)
    reservations.expire_lapsed()
    for order in orders.abandoned_orders():
        orders.close_abandoned(order)
    for refund in refunds.due_refunds():
        refunds.carry_out(refund)
