"""Situations that went wrong in real shops, through the pages and by several people at once.

Tests of the functions below the pages are in the other files here. Malformed quantities are in
``tests.shop.test_basket``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from django.db.models.functions import Now
from django.utils import timezone

from inventory import reservations, stock
from inventory.models import Product, Reservation
from shop import orders, payments
from shop.models import DemoBankCharge, Order, Payment
from shop.orders import lifecycle, status_page
from shop.payments import Outcome, Started
from shop.payments.demo import Choice
from tests.concurrency import at_once, lapse
from tests.conftest import MakeProduct
from tests.shop.orders.pages import (
    Shopper,
    alerts,
    heading,
    offers_to_pay,
    page_of,
    tell,
    text_of,
)
from tests.shop.orders.steps import (
    charged_at_bank,
    do_jobs,
    lapse_all,
    now,
    refunds_of,
    stock_of,
)

pytestmark = pytest.mark.django_db(transaction=True)

State = Order.State
Status = Reservation.Status


@pytest.fixture
def ada() -> Shopper:
    return Shopper("Ada")


@pytest.fixture
def bob() -> Shopper:
    return Shopper("Bob")


def hold_of(product: Product) -> Reservation:
    return Reservation.objects.get(product=product)


def remove(shopper: Shopper, hold: Reservation) -> Any:
    return shopper.client.post(f"/basket/holds/{hold.pk}/", {"remove": "1"})


def statuses(answers: list[Any]) -> list[int]:
    return sorted(answer.status_code for answer in answers)


# Taking the last units


def test_one_buyer_takes_three_of_five_in_two_tabs_never_six(
    ada: Shopper, make_product: MakeProduct
) -> None:
    product = make_product(5, name="Lamp")
    ada.get(f"/products/{product.slug}/")  # one browser: one key for both tabs
    tabs = [ada.tab(), ada.tab()]
    answers = at_once([partial(tab.reserve, product, 3) for tab in tabs])
    assert statuses(answers) == [302, 409]
    assert any("There are only 2 of Lamp left." in text_of(answer) for answer in answers)
    assert stock_of(product) == 2


def test_one_buyer_has_three_of_five_in_an_order_and_takes_three_more_never_six(
    ada: Shopper, make_product: MakeProduct
) -> None:
    product = make_product(5, name="Lamp")
    ada.reserve(product, 3)
    form = ada.checkout_form()
    answers = at_once([partial(ada.tab().check_out, form), partial(ada.tab().reserve, product, 3)])
    assert statuses(answers) == [302, 409]
    assert "There are only 2 of Lamp left." in text_of(answers[1])
    assert stock_of(product) == 2


def test_two_browsers_with_one_address_at_once_get_no_more_than_the_limit(
    make_product: MakeProduct,
) -> None:
    product = make_product(10, max_per_buyer=2)
    browsers = [Shopper("Ada", email) for email in ("ada@example.org", "ADA@example.ORG")]
    for browser in browsers:
        browser.reserve(product, 2)
    forms = [browser.checkout_form() for browser in browsers]
    answers = at_once(
        [partial(browser.check_out, form) for browser, form in zip(browsers, forms, strict=True)]
    )
    assert statuses(answers) == [302, 409]
    assert Order.objects.count() == 1


# Holds


def test_unpaid_attempts_that_were_left_give_all_units_back_without_a_worker(
    make_product: MakeProduct,
) -> None:
    product = make_product(4)
    for name in ("Ada", "Bob", "Cleo"):
        order, _ = Shopper(name).order(product)
        lapse_all(order)
    Shopper("Dora").reserve(product)
    lapse(Reservation.objects.latest("created_at"))
    eve = Shopper("Eve")
    assert "4 left" in eve.get(f"/products/{product.slug}/")
    order, bank = eve.order(product, 4)
    eve.choose(bank)
    assert heading(eve.look(order)) == "Paid. Thank you!"
    assert stock_of(product) == 0


def test_a_buyer_who_left_the_payment_page_goes_on_with_the_same_order(
    ada: Shopper, make_product: MakeProduct
) -> None:
    product = make_product(1, name="Radio")
    order, bank = ada.order(product)
    assert ada.reserve(product).status_code == 409
    assert order.number in ada.get(f"/products/{product.slug}/")
    assert order.number in ada.get("/basket/")
    assert ada.pay(order)["Location"].endswith(bank)
    ada.choose(bank)
    assert heading(ada.look(order)) == "Paid. Thank you!"
    assert charged_at_bank(order) == order.total


def test_two_attempts_of_one_buyer_never_both_win(ada: Shopper, make_product: MakeProduct) -> None:
    product = make_product(1)
    first, first_bank = ada.order(product)
    ada.cancel(first)
    second, second_bank = ada.order(product)
    tabs = [ada.tab(), ada.tab()]
    at_once(
        [
            partial(tab.choose, bank)
            for tab, bank in zip(tabs, (first_bank, second_bank), strict=True)
        ]
    )
    at_once([partial(tab.look, order) for tab, order in zip(tabs, (first, second), strict=True)])
    assert (now(first).state, now(second).state) == (State.CANCELLED, State.PAID)
    assert refunds_of(first) == [("PAID_AFTER_END", first.total)]
    do_jobs("carry_out_refund")
    assert charged_at_bank(first) == 0
    assert charged_at_bank(second) == second.total


@pytest.mark.parametrize("zone", ["Etc/GMT-10", "Etc/GMT+8", "Europe/Berlin", "America/New_York"])
def test_a_hold_lasts_as_long_in_every_time_zone(
    ada: Shopper, make_product: MakeProduct, settings: Any, zone: str
) -> None:
    product = make_product()
    ada.reserve(product)
    settings.TIME_ZONE = zone  # the shop is moved while the hold runs
    with timezone.override(zone):
        assert 540 <= seconds_of_countdown(ada.get("/basket/")) <= 600
        before = hold_of(product)
        assert before.expires_at - before.created_at == timedelta(minutes=10)
        order, _ = ada.order(product)
        assert 840 <= seconds_of_countdown(ada.look(order)) <= 900


def seconds_of_countdown(page: str) -> int:
    [_, rest] = page.split('data-seconds="')
    return int(rest.split('"')[0])


def test_two_sweeps_at_once_take_back_exactly_what_has_lapsed(
    ada: Shopper, bob: Shopper, make_product: MakeProduct
) -> None:
    product = make_product(5)
    ada.reserve(product, 3)
    lapse(hold_of(product))
    bob.reserve(product, 1)
    at_once([reservations.expire_lapsed] * 2)
    assert "Nothing reserved" in ada.get("/basket/")
    assert "Nothing reserved" not in bob.get("/basket/")
    assert stock_of(product) == 4


def _both_remove(ada: Shopper, product: Product) -> list[Callable[[], Any]]:
    return [partial(remove, ada.tab(), hold_of(product))] * 2


def _remove_and_sweep(ada: Shopper, product: Product) -> list[Callable[[], Any]]:
    hold = lapse(hold_of(product))
    return [partial(remove, ada.tab(), hold), reservations.expire_lapsed] * 2


def _cancel_and_staff_cancels(ada: Shopper, product: Product) -> list[Callable[[], Any]]:
    ada.check_out()
    order = Order.objects.get()
    return [partial(ada.tab().cancel, order), partial(orders.cancel, order.pk)] * 2


def _cancel_and_sweep(ada: Shopper, product: Product) -> list[Callable[[], Any]]:
    ada.check_out()
    order = Order.objects.get()
    lapse_all(order)
    return [partial(ada.tab().cancel, order), reservations.expire_lapsed] * 2


@pytest.mark.parametrize(
    "ends", [_both_remove, _remove_and_sweep, _cancel_and_staff_cancels, _cancel_and_sweep]
)
def test_a_hold_of_three_that_ends_by_two_routes_at_once_comes_back_once(
    ada: Shopper,
    make_product: MakeProduct,
    ends: Callable[[Shopper, Product], list[Callable[[], Any]]],
) -> None:
    product = make_product(3)
    ada.reserve(product, 3)
    results = at_once(ends(ada, product))
    assert not [result for result in results if isinstance(result, Exception)]
    assert stock_of(product) == 3
    assert hold_of(product).status in (Status.RELEASED, Status.EXPIRED)


def test_a_buyer_who_comes_back_to_a_sold_hold_reads_so_and_is_not_charged(
    ada: Shopper, bob: Shopper, make_product: MakeProduct
) -> None:
    product = make_product(1, name="Radio")
    order, bank = ada.order(product)
    ada.choose(bank, Choice.DECLINE)
    ada.look(order)
    lapse_all(order)
    sold, bank = bob.order(product)
    bob.choose(bank)
    assert heading(bob.look(sold)) == "Paid. Thank you!"
    answer = ada.client.post(f"{page_of(order)}payment/", follow=True)
    assert "can't be paid any more, and nothing was charged" in alerts(answer)[0]
    page = ada.look(order)
    assert heading(page) == "Your time is over"
    assert not offers_to_pay(page)
    assert charged_at_bank(order) == 0


def test_a_buyer_who_comes_back_to_the_checkout_after_the_sale_reads_so(
    ada: Shopper, bob: Shopper, make_product: MakeProduct
) -> None:
    product = make_product(1, name="Radio")
    ada.reserve(product)
    form = ada.checkout_form()
    lapse(hold_of(product))
    bob.order(product)
    answer = ada.check_out(form)
    assert answer.status_code == 409
    assert "The time of your 1 × Radio is over, and others have it in their baskets now." in alerts(
        answer
    )
    assert Order.objects.count() == 1


# Payment


def test_money_for_a_unit_sold_to_another_goes_back_by_itself(
    ada: Shopper, bob: Shopper, make_product: MakeProduct
) -> None:
    product = make_product(1, price=Decimal("10.00"))
    order, bank = ada.order(product)
    lapse_all(order)
    bobs, bobs_bank = bob.order(product)
    bob.choose(bobs_bank)
    bob.look(bobs)
    ada.choose(bank)
    page = ada.look(order)
    assert heading(page) == "Paid too late"
    assert "We owe you the money that you see below." in page
    assert not offers_to_pay(page)
    assert ada.pay(order)["Location"] == page_of(order)
    do_jobs("carry_out_refund")
    page = ada.look(order)
    assert heading(page) == "Paid too late, and refunded"
    assert "We have given you back the money" in page
    assert charged_at_bank(order) == 0
    assert charged_at_bank(bobs) == Decimal("15.00")
    assert (now(bobs).state, stock_of(product)) == (State.PAID, 0)


def test_a_cancelled_order_with_two_messages_of_payment_is_refunded_once(
    ada: Shopper, make_product: MakeProduct
) -> None:
    product = make_product(2)
    order, bank = ada.order(product, 2)
    ada.cancel(order)
    ada.choose(bank)
    assert at_once([partial(tell, order), partial(tell, order, "event-2")]) == [200, 200]
    page = ada.look(order)
    assert heading(page) == "Cancelled"
    assert "We owe you the money" in page
    assert refunds_of(order) == [("PAID_AFTER_END", order.total)]
    assert stock_of(product) == 2


def test_a_message_of_payment_after_refund_and_restock_changes_nothing(
    ada: Shopper, make_product: MakeProduct
) -> None:
    product = make_product(2)
    order, bank = ada.order(product, 2)
    ada.choose(bank)
    tell(order)
    orders.refund(order.pk, restock=True)
    before = ada.look(order)
    assert [tell(order), tell(order, "event-2")] == [200, 200]
    assert heading(ada.look(order)) == heading(before) == "Refund not finished yet"
    assert (len(refunds_of(order)), stock_of(product)) == (1, 2)


def test_a_page_whose_order_is_paid_while_it_is_made_says_paid(
    ada: Shopper, make_product: MakeProduct
) -> None:
    order, bank = ada.order(make_product(3), 2)
    read_before = Order.objects.get(pk=order.pk)
    ada.choose(bank)
    assert heading(ada.look(order)) == "Paid. Thank you!"
    standing = status_page.recorded_standing(read_before)
    assert standing.situation == status_page.Situation.PAID


@pytest.mark.parametrize("first", ["message", "return"])
def test_message_and_return_at_the_same_instant_sell_once(
    ada: Shopper, make_product: MakeProduct, first: str
) -> None:
    product = make_product(3)
    order, bank = ada.order(product, 2)
    ada.choose(bank)
    calls: list[Callable[[], Any]] = [partial(tell, order), partial(ada.tab().look, order)]
    results = at_once((calls if first == "message" else calls[::-1]) * 3)
    pages = [result for result in results if isinstance(result, str)]
    assert [heading(page) for page in pages] == ["Paid. Thank you!"] * 3
    assert results.count(200) == 3
    assert (stock_of(product), charged_at_bank(order)) == (1, order.total)
    assert len(refunds_of(order)) == 0


def test_an_answer_that_was_lost_is_found_when_the_buyer_looks_and_charged_once(
    ada: Shopper, make_product: MakeProduct
) -> None:
    order, bank = ada.order(make_product())
    assert "The connection broke down" in text_of(ada.choose(bank, Choice.LOSE_ANSWER))
    assert now(order).state == State.PENDING
    assert ada.pay(order)["Location"] == page_of(order)  # the button finds out, too
    assert heading(ada.look(order)) == "Paid. Thank you!"
    assert charged_at_bank(order) == order.total


def test_after_a_crash_between_charge_and_commit_the_next_look_settles(
    ada: Shopper, make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(*args: object) -> None:
        raise Killed

    order, bank = ada.order(make_product())
    ada.choose(bank)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(lifecycle, "_accept", die)
        ada.look(order)
    assert now(order).state == State.PENDING
    assert heading(ada.look(order)) == "Paid. Thank you!"
    assert charged_at_bank(order) == order.total


def test_enter_and_click_on_pay_again_start_one_payment(
    ada: Shopper, make_product: MakeProduct
) -> None:
    order, bank = ada.order(make_product())
    ada.choose(bank, Choice.DECLINE)
    answers = at_once([partial(ada.tab().pay, order)] * 4)
    assert len({answer["Location"] for answer in answers}) == 1
    assert order.payments.count() == 2


def test_two_approvals_and_a_decline_at_once_decide_once(
    ada: Shopper, make_product: MakeProduct
) -> None:
    order, bank = ada.order(make_product())
    choices = [Choice.APPROVE, Choice.APPROVE, Choice.DECLINE]
    at_once([partial(ada.tab().choose, bank, choice) for choice in choices])
    page = ada.look(order)
    approved = DemoBankCharge.objects.get().state == DemoBankCharge.State.APPROVED
    assert heading(page) == ("Paid. Thank you!" if approved else "The payment did not go through")
    at_once([partial(ada.tab().choose, bank, choice) for choice in choices])
    assert heading(ada.look(order)) == heading(page)
    assert (DemoBankCharge.objects.get().state == DemoBankCharge.State.APPROVED) == approved


def test_a_payment_that_takes_long_makes_no_other_buyer_of_the_item_wait(
    ada: Shopper, bob: Shopper, make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page waits for two calls: the start of the payment, and the question how it ended."""
    product = make_product(3, max_per_buyer=2)
    ada.reserve(product)
    form = ada.checkout_form()
    waiting, go_on = threading.Event(), threading.Event()
    start, status = payments.start, payments.status

    def slowly() -> None:
        if threading.current_thread().name == "Ada":
            waiting.set()
            assert go_on.wait(30)

    def start_slowly(payment: Payment) -> Started:
        slowly()
        return start(payment)

    def ask_slowly(payment: Payment) -> Outcome:
        slowly()
        return status(payment)

    monkeypatch.setattr(payments, "start", start_slowly)
    monkeypatch.setattr(payments, "status", ask_slowly)

    def as_ada(call: Callable[[], Any]) -> Any:
        threading.current_thread().name = "Ada"
        return call()

    def as_bob() -> str:
        threading.current_thread().name = "Bob"
        assert waiting.wait(30)
        order, bank = bob.order(product)
        bob.choose(bank)
        page = bob.look(order)
        go_on.set()
        return heading(page)

    answer, bobs = at_once([partial(as_ada, partial(ada.check_out, form)), as_bob])
    assert (answer.status_code, bobs) == (302, "Paid. Thank you!")
    adas = Order.objects.get(name="Ada")
    ada.choose(answer["Location"])
    waiting.clear()
    go_on.clear()
    bob = Shopper("Bo")
    page, bobs = at_once([partial(as_ada, partial(ada.look, adas)), as_bob])
    assert (heading(page), bobs) == ("Paid. Thank you!", "Paid. Thank you!")
    assert stock_of(product) == 0


def test_a_price_that_changes_after_reserving_is_not_charged(
    ada: Shopper, make_product: MakeProduct
) -> None:
    product = make_product(5, price=Decimal("10.00"))
    ada.reserve(product, 2)
    Product.objects.filter(pk=product.pk).update(price=Decimal("99.00"))
    assert "€25.00" in ada.get("/checkout/")
    bank = ada.check_out()["Location"]
    Product.objects.filter(pk=product.pk).update(price=Decimal("1.00"))
    assert "€25.00" in ada.get(bank)
    ada.choose(bank)
    order = Order.objects.get()
    assert "€25.00" in ada.look(order)
    assert charged_at_bank(order) == Decimal("25.00")


# A product that is switched off


def test_a_hold_of_a_product_switched_off_during_the_payment_may_be_sold(
    ada: Shopper, bob: Shopper, make_product: MakeProduct
) -> None:
    product = make_product(5, name="Lamp")
    order, bank = ada.order(product, 2)
    bob.get(f"/products/{product.slug}/")
    Product.objects.filter(pk=product.pk).update(is_active=False)
    refused = bob.reserve(product)
    assert (refused.status_code, "Lamp is not for sale at the moment." in text_of(refused)) == (
        409,
        True,
    )
    ada.choose(bank)
    assert heading(ada.look(order)) == "Paid. Thank you!"


def test_a_lapsed_hold_of_a_product_switched_off_can_not_be_reserved_again(
    ada: Shopper, make_product: MakeProduct
) -> None:
    product = make_product(5, name="Lamp")
    ada.reserve(product)
    form = ada.checkout_form()
    Product.objects.filter(pk=product.pk).update(is_active=False)
    lapse(hold_of(product))
    reservations.expire_lapsed()
    answer = ada.check_out(form)
    assert "The time of your 1 × Lamp is over" in alerts(answer)[1]
    assert "Reserve again" not in text_of(answer)
    stock.receive(product, 1)
    assert (ada.reserve(product).status_code, Order.objects.count()) == (409, 0)
    assert not Reservation.objects.filter(status=Status.HELD, expires_at__gt=Now()).exists()
