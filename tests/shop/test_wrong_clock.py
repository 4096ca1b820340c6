"""The web machine's clock is an hour wrong: the database's decides all that people read."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime, timedelta

import axes.handlers.proxy
import pytest
from axes.models import AccessAttempt
from django.core.management import CommandError
from django.test import Client
from django.utils import timezone

from shop.clock import read_clock
from shop.management.commands.reconcile import read_time
from shop.models import Order
from shop.payments import demo
from tests.conftest import MakeProduct
from tests.shop.orders.pages import Shopper, heading, hidden, page_of, tell
from tests.shop.orders.steps import now

pytestmark = pytest.mark.django_db(transaction=True)


MINUTE = timedelta(minutes=1)
by_either_way = pytest.mark.parametrize("hours", [-1, 1], ids=["behind", "ahead"])


@pytest.fixture(params=[-1, 1], ids=["behind", "ahead"])
def wrong_clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """The hours by which the clock is wrong."""
    set_clock_wrong(monkeypatch, request.param)
    hours: int = request.param
    return hours


def set_clock_wrong(monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
    seconds, real, now = hours * 3600, time.time, timezone.now

    def wrong_now() -> datetime:
        return now() + timedelta(seconds=seconds)

    monkeypatch.setattr(time, "time", lambda: real() + seconds)
    for place in (timezone, axes.handlers.proxy):
        monkeypatch.setattr(place, "now", wrong_now)


def seconds_left(page: str) -> list[int]:
    return [int(seconds) for seconds in re.findall(r'role="timer" data-seconds="(\d+)"', page)]


def test_a_buyer_buys_and_reads_the_truth(make_product: MakeProduct, wrong_clock: int) -> None:
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


def test_the_banks_message_is_taken(make_product: MakeProduct, wrong_clock: int) -> None:
    """The bank's own clock is right."""
    shopper = Shopper()
    order, bank = shopper.order(make_product(5))
    shopper.choose(bank, demo.Choice.LOSE_ANSWER)
    assert tell(order, at=int(read_clock().timestamp())) == 200
    assert now(order).state == Order.State.PAID


# Staff


def test_today_is_the_databases_day(admin_client: Client, wrong_clock: int) -> None:
    """In this zone the database's clock and the machine's show different days."""
    hour = 23 if wrong_clock > 0 else 0
    offset = (hour - read_clock().astimezone(UTC).hour + 12) % 24 - 12
    with timezone.override(timezone.get_fixed_timezone(60 * offset)):
        before = timezone.localtime(read_clock())
        figures = {each.label: each for each in admin_client.get("/admin/").context["figures"]}
        days = {f"{at:%Y-%m-%d}" for at in (before, timezone.localtime(read_clock()))}
    assert any(f"decided_at_from_0={day}" in figures["Units sold today"].url for day in days)


def test_the_last_hour_of_the_chart_is_the_databases(
    admin_client: Client, wrong_clock: int
) -> None:
    before = read_clock()
    hours = json.loads(admin_client.get("/admin/").context["hours"].data)["labels"]
    assert hours[-1] in {f"{timezone.localtime(at):%H}:00" for at in (before, read_clock())}


def test_a_new_product_has_the_databases_time(make_product: MakeProduct, wrong_clock: int) -> None:
    assert abs(make_product(1).created_at - read_clock()) < MINUTE


def log_in(username: str) -> int:
    sent = {"username": username, "password": "wrong"}
    return Client().post("/admin/login/", sent).status_code


@by_either_way
def test_a_locked_login_stays_locked_on_all_machines(
    monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    """A login on the machine with the wrong clock deletes the notes that are out of date."""
    answers = [log_in("boss") for _ in range(5)]
    assert answers == [200, 200, 200, 200, 429]
    set_clock_wrong(monkeypatch, hours)
    assert log_in("another") == 200
    assert log_in("boss") == 429


def test_failed_logins_have_the_databases_time(wrong_clock: int) -> None:
    for _ in range(2):
        log_in("boss")
        assert abs(AccessAttempt.objects.get().attempt_time - read_clock()) < MINUTE


def test_the_time_of_a_backup_is_past_by_the_databases_clock(wrong_clock: int) -> None:
    now = read_clock()
    assert read_time(str(now - MINUTE)) == now - MINUTE
    with pytest.raises(CommandError, match="has not come yet"):
        read_time(str(read_clock() + timedelta(minutes=10)))
