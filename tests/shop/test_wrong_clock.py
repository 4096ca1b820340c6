"""The web machine's clock is an hour wrong: the database's decides all that a buyer reads."""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta

import pytest
from django.utils import timezone

from shop.clock import read_clock
from shop.models import Order
from shop.payments import demo
from tests.conftest import MakeProduct
from tests.shop.orders.pages import Shopper, heading, hidden, page_of, tell
from tests.shop.orders.steps import now

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(params=[-1, 1], ids=["behind", "ahead"])
def wrong_clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds, real, now = request.param * 3600, time.time, timezone.now

    def wrong_now() -> datetime:
        return now() + timedelta(seconds=seconds)

    monkeypatch.setattr(time, "time", lambda: real() + seconds)
    monkeypatch.setattr(timezone, "now", wrong_now)


def seconds_left(page: str) -> list[int]:
    return [int(seconds) for seconds in re.findall(r'role="timer" data-seconds="(\d+)"', page)]


def test_a_buyer_buys_and_reads_the_truth(make_product: MakeProduct, wrong_clock: None) -> None:
    product, shopper = make_product(5), Shopper()
    shopper.reserve(product, 2)
    [left] = seconds_left(shopper.get("/basket/"))
    assert 9 * 60 < left <= 10 * 60
    answer = shopper.check_out()
    order = Order.objects.get()
    [left] = seconds_left(shopper.look(order))
    assert 14 * 60 < left <= 15 * 60
    assert hidden(shopper.get(page_of(order)), "csrfmiddlewaretoken")
    shopper.choose(answer["Location"])
    assert heading(shopper.look(order)) == "Paid. Thank you!"


def test_the_banks_message_is_taken(make_product: MakeProduct, wrong_clock: None) -> None:
    """The bank's own clock is right."""
    shopper = Shopper()
    order, bank = shopper.order(make_product(5))
    shopper.choose(bank, demo.Choice.LOSE_ANSWER)
    assert tell(order, at=int(read_clock().timestamp())) == 200
    assert now(order).state == Order.State.PAID
