"""Settling, where money and goods meet: by any caller, at any time, after any loss on the way."""

from __future__ import annotations

import threading
from decimal import Decimal
from html import unescape
from typing import Any

import pytest
from django.conf import LazySettings
from django.core import mail
from django.db import transaction
from django.test import Client

from inventory import reservations
from inventory.exceptions import InsufficientStock, ReservationEnded
from inventory.models import Product, Reservation
from inventory.reservations import expire_lapsed, reserve
from shop import orders, payments
from shop.models import Order, Payment, Refund
from shop.orders import lifecycle, refunds
from shop.payments import Outcome, demo
from shop.payments.demo import Choice
from tests.concurrency import at_once, of_kind
from tests.conftest import MakeProduct
from tests.shop.orders.steps import (
    APPROVE,
    DECLINE,
    at_bank,
    charged_at_bank,
    choose_again,
    close_payment_time,
    do_jobs,
    go_to_bank,
    lapse_all,
    now,
    place,
    queued,
    refunds_of,
    stock_of,
)

pytestmark = pytest.mark.django_db(transaction=True)

State = Order.State
GOODS_GONE, PAID_AFTER_END = Refund.Reason.GOODS_GONE, Refund.Reason.PAID_AFTER_END


def status_of(order: Order) -> list[str]:
    lines = order.lines.order_by("pk")
    return list(lines.values_list("reservation__status", flat=True))


# Paid in time


def test_an_order_paid_in_time_is_sold(make_product: MakeProduct) -> None:
    product = make_product(5)
    order = place((product, 2))
    at_bank(order, APPROVE)
    assert orders.settle(order.pk).state == State.PAID
    assert status_of(order) == ["SOLD"]
    assert stock_of(product) == 3
    assert queued("send_order_paid") == [{"order_id": order.pk}]


@pytest.mark.parametrize("attempt", range(3))
def test_message_return_and_worker_at_the_same_instant_sell_once(
    make_product: MakeProduct, attempt: int
) -> None:
    product = make_product(5)
    order = place((product, 2))
    at_bank(order, APPROVE)
    settled = at_once([lambda: orders.settle(order.pk)] * 6)
    assert {order.state for order in settled} == {State.PAID}
    assert stock_of(product) == 3
    assert len(queued("send_order_paid")) == 1
    assert refunds_of(order) == []


def test_settling_again_changes_nothing(make_product: MakeProduct) -> None:
    order = place((make_product(5), 2))
    at_bank(order, APPROVE)
    first = orders.settle(order.pk)
    orders.settle(order.pk)
    again = now(order)
    assert (again.state, again.paid_at) == (first.state, first.paid_at)
    assert len(queued("send_order_paid")) == 1


def test_as_long_as_the_buyer_is_at_the_bank_nothing_happens(make_product: MakeProduct) -> None:
    order = place((make_product(5), 2))
    go_to_bank(order)
    assert orders.settle(order.pk).state == State.PENDING
    assert status_of(order) == ["HELD"]


def test_after_a_declined_payment_the_order_waits_for_another(make_product: MakeProduct) -> None:
    order = place((make_product(5), 2))
    at_bank(order, DECLINE)
    assert orders.settle(order.pk).state == State.PENDING
    assert status_of(order) == ["HELD"]


# The answer is lost


def test_a_lost_answer_is_found_by_the_worker_and_charged_once(make_product: MakeProduct) -> None:
    order = place((make_product(5), 2))
    at_bank(order, Choice.LOSE_ANSWER)
    assert queued("send_demo_bank_event") == []
    assert orders.unsettled_orders() == [order.pk]
    orders.settle(order.pk)
    assert now(order).state == State.PAID
    assert orders.unsettled_orders() == []
    assert charged_at_bank(order) == order.total


def test_after_a_crash_between_charge_and_commit_the_next_look_settles(
    make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = make_product(5)
    order = place((product, 2))
    at_bank(order, APPROVE)

    def die(order: Order, state: Order.State, **fields: Any) -> None:
        raise SystemExit

    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr(lifecycle, "_change_state", die)
        orders.settle(order.pk)
    assert now(order).state == State.PENDING
    assert status_of(order) == ["HELD"]
    orders.settle(order.pk)
    assert now(order).state == State.PAID
    assert charged_at_bank(order) == order.total


def test_after_a_crash_before_the_bank_was_reached_the_payment_is_started_again(
    make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = place((make_product(5), 2))

    def die(payment: Payment) -> None:
        raise SystemExit

    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr(payments, "start", die)
        go_to_bank(order)
    assert orders.settle(order.pk).state == State.PENDING
    at_bank(order, APPROVE)
    assert orders.settle(order.pk).state == State.PAID
    assert order.payments.count() == 1


# Paid late


def test_paid_after_the_hold_lapsed_but_before_it_was_taken_back(
    make_product: MakeProduct,
) -> None:
    order = place((make_product(2), 2))
    at_bank(order, APPROVE)
    lapse_all(order)
    assert orders.settle(order.pk).state == State.PAID
    assert status_of(order) == ["SOLD"]


def test_paid_after_the_hold_was_taken_back_its_units_are_taken_again(
    make_product: MakeProduct,
) -> None:
    product = make_product(3)
    order = place((product, 2))
    at_bank(order, APPROVE)
    lapse_all(order)
    expire_lapsed()
    assert stock_of(product) == 3
    assert orders.settle(order.pk).state == State.PAID
    assert (status_of(order), stock_of(product)) == (["SOLD"], 1)


def test_money_that_comes_too_late_goes_back(make_product: MakeProduct) -> None:
    """The hold lapses while A is at the bank, B takes the last unit, A's payment succeeds."""
    product = make_product(1)
    order = place((product, 1), buyer="A")
    go_to_bank(order)
    lapse_all(order)
    sold = place((product, 1), buyer="B")
    at_bank(sold, APPROVE)
    assert orders.settle(sold.pk).state == State.PAID
    choose_again(order.payments.get(), APPROVE)
    assert orders.settle(order.pk).state == State.REFUNDED
    assert refunds_of(order) == [(GOODS_GONE, order.total)]
    assert len(queued("send_order_refunded")) == 1
    assert queued("send_order_paid") == [{"order_id": sold.pk}]
    with pytest.raises(Exception, match="is closed"):
        go_to_bank(order)
    do_jobs("carry_out_refund")
    assert charged_at_bank(order) == 0
    assert stock_of(product) == 0


def test_a_buyer_who_comes_back_to_a_sold_hold_reads_so_and_is_not_charged(
    make_product: MakeProduct,
) -> None:
    product = make_product(1)
    order = place((product, 1), buyer="A")
    lapse_all(order)
    reserve(product, 1, buyer="B")
    with pytest.raises(ReservationEnded, match="has lapsed, and its units are back on sale"):
        go_to_bank(order)
    assert not Payment.objects.exists()


def test_all_or_nothing_if_one_of_two_products_is_gone(make_product: MakeProduct) -> None:
    there, gone = make_product(5), make_product(1)
    order = place((there, 2), (gone, 1), buyer="A")
    at_bank(order, APPROVE)
    Reservation.objects.filter(order_line__order=order, product=gone).update(
        expires_at=order.placed_at
    )
    reserve(gone, 1, buyer="B")
    assert orders.settle(order.pk).state == State.REFUNDED
    assert refunds_of(order) == [(GOODS_GONE, order.total)]
    assert (stock_of(there), stock_of(gone)) == (5, 0)


def test_lapsed_holds_of_others_do_not_stand_in_the_way(make_product: MakeProduct) -> None:
    product = make_product(2)
    order = place((product, 2), buyer="A")
    at_bank(order, APPROVE)
    lapse_all(order)
    other = reserve(product, 2, buyer="B")
    Reservation.objects.filter(pk=other.pk).update(expires_at=order.placed_at)
    assert orders.settle(order.pk).state == State.PAID
    other.refresh_from_db()
    assert other.status == Reservation.Status.EXPIRED


def test_own_lapsed_holds_of_the_same_order_are_not_taken_back(make_product: MakeProduct) -> None:
    product = make_product(3)
    order = place((product, 2), (product, 1), buyer="A")
    at_bank(order, APPROVE)
    first, second = order.lines.all()
    Reservation.objects.filter(pk=first.reservation_id).update(expires_at=order.placed_at)
    expire_lapsed()
    Reservation.objects.filter(pk=second.reservation_id).update(expires_at=order.placed_at)
    assert orders.settle(order.pk).state == State.PAID
    assert (status_of(order), stock_of(product)) == (["SOLD", "SOLD"], 0)


def test_a_product_switched_off_meanwhile(make_product: MakeProduct) -> None:
    """A live hold may still be sold. A hold that was taken back can't be made again."""
    product = make_product(5)
    running, gone = place((product, 1), buyer="A"), place((product, 1), buyer="B")
    for order in (running, gone):
        at_bank(order, APPROVE)
    lapse_all(gone)
    expire_lapsed()
    Product.objects.filter(pk=product.pk).update(is_active=False)
    assert orders.settle(running.pk).state == State.PAID
    assert orders.settle(gone.pk).state == State.REFUNDED


@pytest.mark.parametrize("attempt", range(3))
def test_a_late_payment_and_a_new_buyer_at_once_never_both_get_the_last_unit(
    make_product: MakeProduct, attempt: int
) -> None:
    product = make_product(1)
    order = place((product, 1), buyer="A")
    at_bank(order, APPROVE)
    lapse_all(order)
    settled, *others = at_once(
        [lambda: orders.settle(order.pk)]
        + [lambda b=b: reserve(product, 1, buyer=b) for b in "BCD"]
        + [expire_lapsed]
    )
    served = of_kind(others, Reservation)
    assert len(served) + (settled.state == State.PAID) == 1
    assert len(of_kind(others, InsufficientStock)) == 3 - len(served)
    assert settled.state in (State.PAID, State.REFUNDED)


# Paid after the end


def test_paid_after_cancelling_twice_is_refunded_once(make_product: MakeProduct) -> None:
    product = make_product(3)
    order = place((product, 2))
    go_to_bank(order)
    orders.cancel(order.pk)
    assert stock_of(product) == 3
    choose_again(order.payments.get(), APPROVE)
    at_once([lambda: orders.settle(order.pk)] * 3)
    orders.settle(order.pk)
    assert now(order).state == State.CANCELLED
    assert refunds_of(order) == [(PAID_AFTER_END, order.total)]
    assert stock_of(product) == 3


@pytest.mark.parametrize("attempt", range(4))
def test_cancelled_and_paid_at_the_same_instant(make_product: MakeProduct, attempt: int) -> None:
    product = make_product(3)
    order = place((product, 2))
    at_bank(order, APPROVE)
    at_once([lambda: orders.settle(order.pk), lambda: orders.cancel(order.pk)] * 2)
    assert now(order).state == State.CANCELLED
    assert sum(amount for _, amount in refunds_of(order)) == order.total
    assert stock_of(product) == 3
    do_jobs("carry_out_refund")
    assert charged_at_bank(order) == 0


def test_a_declined_payment_that_turns_out_paid_is_refunded(
    make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some providers let the buyer try again on the page of a declined payment."""
    order = place((make_product(3), 1))
    charge = at_bank(order, DECLINE)
    orders.settle(order.pk)
    at_bank(order, APPROVE)
    assert orders.settle(order.pk).state == State.PAID
    charge.state = "APPROVED"
    charge.save()
    orders.settle(order.pk)
    assert now(order).state == State.PAID
    assert refunds_of(order) == [(Refund.Reason.PAID_TWICE, order.total)]
    do_jobs("carry_out_refund")
    assert charged_at_bank(order) == order.total


# A provider that doesn't answer


class Silent(demo.DemoBank):
    slug = "silent"

    def status(self, payment: Payment) -> Outcome:
        raise payments.ProviderUnavailable("No answer.")


def use_silent_provider(settings: LazySettings) -> None:
    settings.FORMER_PAYMENT_PROVIDERS = [f"{__name__}.Silent"]


@pytest.mark.parametrize("known", [True, False])
def test_a_declined_attempt_at_a_provider_that_is_gone_keeps_nobody_from_paying(
    make_product: MakeProduct, settings: LazySettings, known: bool
) -> None:
    order = place((make_product(1), 1))
    at_bank(order, DECLINE)
    orders.settle(order.pk)
    order.payments.update(provider="silent")
    if known:
        use_silent_provider(settings)
    at_bank(order, APPROVE)
    assert orders.settle(order.pk).state == State.PAID


@pytest.mark.parametrize("known", [True, False])
def test_an_order_waits_for_an_attempt_under_way_at_a_provider_that_is_gone(
    make_product: MakeProduct, settings: LazySettings, known: bool
) -> None:
    """It may be paid: a second payment could charge twice."""
    order = place((make_product(1), 1))
    go_to_bank(order)
    order.payments.update(provider="silent")
    if known:
        use_silent_provider(settings)
    with pytest.raises(payments.ProviderUnavailable):
        go_to_bank(order)
    assert order.payments.count() == 1
    order.payments.update(provider="demo")


def test_a_refund_at_a_provider_that_the_settings_do_not_know_stays_due(
    make_product: MakeProduct,
) -> None:
    order = place((make_product(1), 1))
    at_bank(order, APPROVE)
    orders.settle(order.pk)
    orders.refund(order.pk)
    order.payments.update(provider="silent")
    with pytest.raises(payments.ProviderUnavailable, match="FORMER_PAYMENT_PROVIDERS"):
        refunds.carry_out(Refund.objects.get().pk)
    assert Refund.objects.get().state == Refund.State.DUE


# Paid too late: the buyer reads the reason


def paid_too_late(product: Product, **change: object) -> Order:
    """An order for two units, paid after its holds were taken back and the product was changed."""
    order = place((product, 2))
    go_to_bank(order)
    lapse_all(order)
    expire_lapsed()
    Product.objects.filter(pk=product.pk).update(**change)
    choose_again(order.payments.get(), APPROVE)
    return orders.settle(order.pk)


def reason_in_page_and_mail(order: Order) -> tuple[str, str]:
    mail.outbox.clear()
    do_jobs("send_order_refunded")
    page = Client().get(f"/orders/{order.token}/").content.decode()
    return unescape(page), str(mail.outbox[-1].body)


@pytest.mark.parametrize(
    ("change", "reason", "says"),
    [
        ({"is_active": False}, Refund.Reason.NOT_FOR_SALE, "we no longer sold all of the goods"),
        ({"max_per_buyer": 1}, Refund.Reason.OVER_LIMIT, "over the limit for each customer"),
        ({"is_active": True}, None, ""),
    ],
)
def test_the_buyer_reads_the_true_reason(
    make_product: MakeProduct, change: dict[str, object], reason: Refund.Reason | None, says: str
) -> None:
    product = make_product(20)
    order = paid_too_late(product, **change)
    if reason is None:
        assert order.state == State.PAID
        return
    assert (order.state, stock_of(product)) == (State.REFUNDED, 20)
    assert refunds_of(order) == [(reason, order.total)]
    for words in reason_in_page_and_mail(order):
        assert says in words
        assert "somebody else" not in words


def test_units_only_held_by_another_are_not_called_sold(make_product: MakeProduct) -> None:
    product = make_product(2)
    order = place((product, 2), buyer="A")
    go_to_bank(order)
    lapse_all(order)
    reserve(product, 1, buyer="B")
    choose_again(order.payments.get(), APPROVE)
    assert orders.settle(order.pk).state == State.REFUNDED
    assert refunds_of(order) == [(GOODS_GONE, order.total)]
    for words in reason_in_page_and_mail(order):
        assert "we had too few of the goods left" in words
        assert "sold to somebody else" not in words


def test_a_late_payment_is_not_over_the_limit_for_an_order_left_long_ago(
    make_product: MakeProduct,
) -> None:
    """While no worker runs: the other order's hold lapsed before this one was paid."""
    product = make_product(9, max_per_buyer=2)
    order = place((product, 2), buyer="A", email="me@example.org")
    go_to_bank(order)
    lapse_all(order)
    expire_lapsed()
    left = place((product, 2), buyer="B", email="me@example.org")
    lapse_all(left, by_minutes=60)
    choose_again(order.payments.get(), APPROVE)
    assert orders.settle(order.pk).state == State.PAID
    assert stock_of(product) == 7


# Buyers who don't come back


def test_an_order_left_before_paying_is_closed_and_its_units_are_on_sale(
    make_product: MakeProduct,
) -> None:
    product = make_product(2)
    order = place((product, 2))
    lapse_all(order)
    assert orders.abandoned_orders() == []  # a moment ago: the buyer may be about to pay
    lapse_all(order, by_minutes=6)
    assert orders.abandoned_orders() == [order.pk]
    orders.close_abandoned(order.pk)
    assert now(order).state == State.CANCELLED
    assert stock_of(product) == 2


def test_an_order_left_at_the_bank_stays_open_until_the_bank_gives_up(
    make_product: MakeProduct,
) -> None:
    order = place((make_product(2), 2))
    go_to_bank(order)
    lapse_all(order, by_minutes=6)
    orders.settle(order.pk)
    assert orders.abandoned_orders() == []
    close_payment_time(order)
    assert orders.unsettled_orders() == [order.pk]
    orders.settle(order.pk)
    assert order.payments.get().state == Payment.State.DECLINED
    assert orders.abandoned_orders() == [order.pk]


def test_a_payment_that_never_reached_the_bank_ends_with_its_time(
    make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = place((make_product(2), 2))

    def unreachable(payment: Payment) -> None:
        raise payments.ProviderUnavailable("No network.")

    with monkeypatch.context() as patched, pytest.raises(payments.ProviderUnavailable):
        patched.setattr(payments, "start", unreachable)
        go_to_bank(order)
    close_payment_time(order)
    orders.settle(order.pk)
    assert order.payments.get().state == Payment.State.DECLINED


def test_an_order_whose_payment_was_begun_meanwhile_is_not_closed(
    make_product: MakeProduct,
) -> None:
    order = place((make_product(2), 2))
    lapse_all(order, by_minutes=6)
    assert orders.abandoned_orders() == [order.pk]
    go_to_bank(order)
    assert orders.close_abandoned(order.pk).state == State.PENDING


def test_an_order_is_closed_or_a_payment_is_begun_never_both(make_product: MakeProduct) -> None:
    order = place((make_product(2), 2))
    lapse_all(order, by_minutes=6)
    at_once([lambda: orders.close_abandoned(order.pk), lambda: go_to_bank(order)])
    order = now(order)
    if order.state == State.CANCELLED:
        assert not order.payments.exists()
    else:
        assert order.payments.get().state == Payment.State.STARTED
        assert status_of(order) == ["HELD"]


# No one else waits


def test_a_payment_that_takes_long_makes_no_other_buyer_wait(
    make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = make_product(3)
    order = place((product, 1), buyer="A")
    at_bank(order, APPROVE)
    asked, answered = threading.Event(), threading.Event()
    ask = payments.status

    def ask_slowly(payment: Payment) -> Outcome:
        asked.set()
        assert answered.wait(30)
        return ask(payment)

    monkeypatch.setattr(payments, "status", ask_slowly)

    def buy_meanwhile() -> Reservation:
        assert asked.wait(30)
        hold = reserve(product, 1, buyer="B")
        reservations.confirm(hold.pk)
        orders.cancel(order.pk)  # the order itself is not locked either
        answered.set()
        return hold

    settled, bought = at_once([lambda: orders.settle(order.pk), buy_meanwhile])
    assert isinstance(bought, Reservation)
    assert settled.state == State.CANCELLED
    assert refunds_of(order) == [(PAID_AFTER_END, order.total)]


def test_no_provider_is_ever_called_inside_a_transaction(make_product: MakeProduct) -> None:
    order = place((make_product(3), 1))
    go_to_bank(order)
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        orders.settle(order.pk)


def test_all_units_can_be_bought_again_after_one_hold_period_without_a_worker(
    make_product: MakeProduct,
) -> None:
    product = make_product(4, price=Decimal("3.00"))
    left = [place((product, 1), buyer=buyer) for buyer in "ABCD"]
    for order in left:
        go_to_bank(order)
        lapse_all(order)
    bought = place((product, 4), buyer="E")
    at_bank(bought, APPROVE)
    assert orders.settle(bought.pk).state == State.PAID
