"""The connection is lost before or after any statement of a batch: nobody is told a wrong thing.

Buyers whom the lane leaves to Django get its answer. All of them send their forms once more, as a
browser does when a page is loaded again: there is still one hold for each.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Literal

import pytest
from django.db import OperationalError, connection
from django.db.backends.base.base import BaseDatabaseWrapper

from inventory import monitor
from inventory.models import Product, Reservation
from inventory.reservations import reserve
from inventory.strategies import combined
from shop.fast_lane.batches import Threads
from shop.fast_lane.reserving import record_refusals, serve
from shop.models import HoldAddress, Refusal
from tests.conftest import MakeProduct
from tests.shop.fast_lane.conftest import Ask, Browser, LaneRunner, Request, ask_django

pytestmark = pytest.mark.django_db(transaction=True)

When = Literal["before", "after"]
MOST_STATEMENTS = 30  # of a batch, by far


class Losing:
    """Loses the connection before or after the statement (or COMMIT) of this number."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lose_at, self.when, self.seen = 0, "before", 0
        self.has_lost = False
        commit = BaseDatabaseWrapper._commit  # type: ignore[attr-defined]
        with_good_connection = Threads._with_good_connection

        def commit_or_lose(wrapper: BaseDatabaseWrapper) -> None:
            if threading.current_thread().name.startswith("fast lane"):
                self.step(commit, wrapper)
            else:
                commit(wrapper)

        def run(threads: Threads, work: Callable[..., Any], *args: Any) -> Any:
            if work not in (serve, record_refusals):
                return with_good_connection(threads, work, *args)

            def watched(*args: Any) -> Any:
                with connection.execute_wrapper(self.step):
                    return work(*args)

            return with_good_connection(threads, watched, *args)

        monkeypatch.setattr(BaseDatabaseWrapper, "_commit", commit_or_lose)
        monkeypatch.setattr(Threads, "_with_good_connection", run)
        monkeypatch.setattr(combined, "PAUSES", (0.0, 0.0, 0.0))

    def step(self, execute: Callable[..., Any], *args: Any) -> Any:
        self.seen += 1
        if self.seen != self.lose_at:
            return execute(*args)
        self.has_lost = True
        if self.when == "after":
            execute(*args)
        connection.close()
        raise OperationalError("the connection is lost")

    def prepare(self, lose_at: int, when: When) -> None:
        self.lose_at, self.when, self.seen, self.has_lost = lose_at, when, 0, False


def held_by(browser: Browser, product: Product) -> int:
    return Reservation.objects.held().filter(buyer=browser.buyer, product=product).units()


def assert_answers_are_true(product: Product, forms: dict[Browser, Request], ask: Ask) -> set[int]:
    """Ask the lane, then Django for those without an answer; return the statuses."""
    answers = ask(*forms.values())
    statuses = {}
    for (browser, form), answer in zip(forms.items(), answers, strict=True):
        if answer is None:
            assert monitor.state_of(product.pk).keeps_law
        statuses[browser] = answer.status if answer else ask_django(form).status_code
    for browser, status in statuses.items():
        assert status in (302, 409)
        assert bool(held_by(browser, product)) == (status == 302), status
    again = [ask_django(form).status_code for form in forms.values()]
    assert again == list(statuses.values())
    assert monitor.state_of(product.pk).keeps_law
    assert Reservation.objects.exclude(buyer="other").count() == again.count(302)
    return set(statuses.values())


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("units", "expected"),
    [(9, {302}), (2, {302, 409}), (0, {409})],
    ids=["served", "some refused", "sold out"],
)
def test_nobody_is_told_a_wrong_thing_if_the_connection_is_lost_at_any_statement(
    make_product: MakeProduct,
    ask: Ask,
    monkeypatch: pytest.MonkeyPatch,
    when: When,
    units: int,
    expected: set[int],
) -> None:
    product = make_product(units + 1, strategy="combined", backstop=False)
    losing = Losing(monkeypatch)
    for lose_at in range(1, MOST_STATEMENTS):
        Reservation.objects.all().delete()
        HoldAddress.objects.all().delete()
        Product.objects.filter(pk=product.pk).update(stock=units + 1)
        reserve(product, 1, buyer="other")
        losing.prepare(lose_at, when)
        browsers = [Browser() for _ in range(3)]
        forms = {browser: browser.form(product) for browser in browsers}
        assert assert_answers_are_true(product, forms, ask) == expected
        if not losing.has_lost:
            assert lose_at > 5
            return
    raise AssertionError("a batch has too many statements")


def test_a_claim_whose_reservation_may_have_been_made_is_kept(
    make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the address could hold more than its limit."""
    product = make_product(9, strategy="combined", backstop=False)
    send = combined._send

    def send_and_lose(together: Any) -> Any:
        send(together)
        raise OperationalError("the connection is lost")

    monkeypatch.setattr(combined, "_send", send_and_lose)
    monkeypatch.setattr(combined, "_find_granted", send_and_lose)
    monkeypatch.setattr(combined, "PAUSES", (0.0,))
    browser = Browser()
    assert ask_django(browser.form(product)).status_code == 302  # the second attempt found it
    hold = Reservation.objects.get(buyer=browser.buyer)
    assert HoldAddress.objects.get().reservation_id == hold.pk


def end_idle_connections() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"  # and wait for their end
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'"
        )


def test_connections_that_were_ended_between_batches_are_replaced(
    make_product: MakeProduct, lane_runner: LaneRunner
) -> None:
    """As when PostgreSQL was restarted. The lane goes on without Django's help."""
    product = make_product(9, strategy="combined", backstop=False)
    lane, runner = lane_runner
    for _ in range(2):
        browser = Browser()
        answer = runner.run(lane.answer(*browser.form(product)))
        assert answer is not None
        assert answer.status == 302
        end_idle_connections()


def test_refusals_are_on_record_once_though_django_found_some_of_them(
    make_product: MakeProduct, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = make_product(0, strategy="combined")
    losing = Losing(monkeypatch)
    losing.prepare(3, "before")
    forms = {browser: browser.form(product) for browser in [Browser(), Browser()]}
    for form, answer in zip(forms.values(), ask(*forms.values()), strict=True):
        if answer is None:
            assert ask_django(form).status_code == 409
    assert losing.has_lost
    assert Refusal.objects.count() == 2
