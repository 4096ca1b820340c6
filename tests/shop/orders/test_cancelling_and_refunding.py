"""Units come back once, money goes back once, and never more than was paid."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest
from django.core.exceptions import ValidationError

from shop import orders, payments, refunds
from shop.exceptions import InvalidRefund, NotInThisState, OrderChanged
from shop.models import DemoBankRefund, Order, Refund
from tests.concurrency import at_once, of_kind
from tests.conftest import MakeProduct
from tests.shop.orders.steps import (
    APPROVE,
    at_bank,
    charged_at_bank,
    do_jobs,
    go_to_bank,
    now,
    place,
    queued,
    refunds_of,
    stock_of,
)

pytestmark = pytest.mark.django_db(transaction=True)

State = Order.State
Reason = Refund.Reason
ALL = Decimal("105.00")
Buy = Callable[..., Order]


@pytest.fixture
def ten_sold(make_product: MakeProduct) -> Order:
    """A paid order of ten units at 10.00, and 5.00 for shipping; none is left in stock."""
    order = place((make_product(10, price=Decimal("10.00")), 10))
    at_bank(order, APPROVE)
    return orders.settle(order.pk)


def line_of(order: Order) -> int:
    return order.lines.get().pk


def stock(order: Order) -> int:
    return stock_of(order.lines.get().reservation.product)


# Cancelling


def test_cancelled_before_paying_the_holds_are_released(make_product: MakeProduct) -> None:
    order = place((make_product(10), 3))
    orders.cancel(order.pk)
    assert (now(order).state, stock(order), refunds_of(order)) == (State.CANCELLED, 10, [])
    with pytest.raises(NotInThisState, match="is cancelled"):
        go_to_bank(order)


def test_cancelled_after_paying_units_and_money_go_back(ten_sold: Order) -> None:
    orders.cancel(ten_sold.pk)
    assert (now(ten_sold).state, stock(ten_sold)) == (State.CANCELLED, 10)
    assert refunds_of(ten_sold) == [(Reason.CANCELLED, ALL)]
    do_jobs("carry_out_refund")
    assert charged_at_bank(ten_sold) == 0


def test_cancelled_twice_and_in_two_tabs_it_comes_back_once(ten_sold: Order) -> None:
    results = at_once([lambda: orders.cancel(ten_sold.pk)] * 4)
    assert len(of_kind(results, Order)) == 4
    orders.cancel(ten_sold.pk)
    assert stock(ten_sold) == 10
    assert refunds_of(ten_sold) == [(Reason.CANCELLED, ALL)]


def test_refunded_and_restocked_then_cancelled_it_comes_back_once(ten_sold: Order) -> None:
    orders.refund(ten_sold.pk, restock=True)
    orders.cancel(ten_sold.pk)
    assert (now(ten_sold).state, stock(ten_sold)) == (State.REFUNDED, 10)
    assert refunds_of(ten_sold) == [(Reason.RETURNED, ALL)]


def test_ten_sold_three_returned_the_rest_cancelled(ten_sold: Order) -> None:
    orders.refund(ten_sold.pk, units={line_of(ten_sold): 3}, restock=True)
    assert stock(ten_sold) == 3
    orders.cancel(ten_sold.pk)
    orders.cancel(ten_sold.pk)
    assert stock(ten_sold) == 10
    assert refunds_of(ten_sold) == [
        (Reason.RETURNED, Decimal("30.00")),
        (Reason.CANCELLED, Decimal("75.00")),
    ]


def test_what_was_refunded_without_restock_does_not_come_back_by_cancelling(
    ten_sold: Order,
) -> None:
    orders.refund(ten_sold.pk, units={line_of(ten_sold): 3})
    orders.cancel(ten_sold.pk)
    assert (now(ten_sold).state, stock(ten_sold)) == (State.CANCELLED, 7)


def test_cancelled_and_refunded_at_once(ten_sold: Order) -> None:
    at_once(
        [lambda: orders.cancel(ten_sold.pk), lambda: orders.refund(ten_sold.pk, restock=True)] * 2
    )
    assert stock(ten_sold) == 10
    assert now(ten_sold).refunded() == ALL


def test_paid_is_told_again_after_refund_and_restock(ten_sold: Order) -> None:
    orders.refund(ten_sold.pk, restock=True)
    before = refunds_of(ten_sold)
    orders.settle(ten_sold.pk)
    assert (now(ten_sold).state, stock(ten_sold)) == (State.REFUNDED, 10)
    assert refunds_of(ten_sold) == before


# Refunding in part


def test_units_and_with_the_last_of_them_the_shipping(ten_sold: Order) -> None:
    orders.refund(ten_sold.pk, units={line_of(ten_sold): 4})
    assert (now(ten_sold).state, stock(ten_sold)) == (State.PAID, 0)
    orders.refund(ten_sold.pk, units={line_of(ten_sold): 6}, restock=True)
    assert (now(ten_sold).state, stock(ten_sold)) == (State.REFUNDED, 6)
    assert [amount for _, amount in refunds_of(ten_sold)] == [Decimal("40.00"), Decimal("65.00")]


def test_a_part_of_the_price_first_then_never_more_than_is_left(ten_sold: Order) -> None:
    orders.refund(ten_sold.pk, amount=Decimal("50.00"), note="Scratched")
    orders.refund(ten_sold.pk, restock=True)
    assert now(ten_sold).refunded() == ALL
    assert (now(ten_sold).state, stock(ten_sold)) == (State.REFUNDED, 10)


@pytest.mark.parametrize(
    "amount", ["0", "-1", "105.01", "0.001", "1e30", "NaN", "sNaN", "Infinity", "-Infinity"]
)
def test_an_amount_that_makes_no_sense_is_refused(ten_sold: Order, amount: str) -> None:
    with pytest.raises(InvalidRefund, match="amount must be"):
        orders.refund(ten_sold.pk, amount=Decimal(amount))
    assert refunds_of(ten_sold) == []


@pytest.mark.parametrize("units", [0, -1, 11, True, "2", 1.5])
def test_units_that_make_no_sense_are_refused(ten_sold: Order, units: object) -> None:
    with pytest.raises(InvalidRefund):
        orders.refund(ten_sold.pk, units={line_of(ten_sold): units})  # type: ignore[dict-item]
    with pytest.raises(InvalidRefund, match="isn't one of the order's"):
        orders.refund(ten_sold.pk, units={0: 1})
    with pytest.raises(InvalidRefund, match="one or the other"):
        orders.refund(ten_sold.pk, amount=Decimal("1.00"), restock=True)
    assert (refunds_of(ten_sold), stock(ten_sold)) == ([], 0)


def test_a_refund_sent_twice_at_once_with_what_was_seen_happens_once(ten_sold: Order) -> None:
    def refund_three() -> Order:
        units = {line_of(ten_sold): 3}
        return orders.refund(ten_sold.pk, units=units, restock=True, seen=Decimal(0))

    results = at_once([refund_three] * 3)
    assert (len(of_kind(results, Order)), len(of_kind(results, OrderChanged))) == (1, 2)
    assert stock(ten_sold) == 3
    assert refunds_of(ten_sold) == [(Reason.RETURNED, Decimal("30.00"))]


def test_many_refunds_at_once_never_give_back_more_than_was_paid(ten_sold: Order) -> None:
    results = at_once([lambda: orders.refund(ten_sold.pk, amount=Decimal("40.00"))] * 4)
    assert (len(of_kind(results, Order)), len(of_kind(results, InvalidRefund))) == (2, 2)
    assert now(ten_sold).kept() == Decimal("25.00")


def test_an_order_that_is_not_paid_has_nothing_to_refund(make_product: MakeProduct) -> None:
    with pytest.raises(NotInThisState, match="nothing to refund"):
        orders.refund(place((make_product(), 1)).pk)


# Carrying it out


def test_a_refund_carried_out_many_times_at_once_is_one_at_the_bank(ten_sold: Order) -> None:
    orders.refund(ten_sold.pk, amount=Decimal("20.00"))
    refund = Refund.objects.get()
    assert refunds.due() == [refund.pk]
    results = at_once([lambda: refunds.carry_out(refund.pk)] * 4)
    assert len(of_kind(results, Refund)) == 4, results
    refund.refresh_from_db()
    assert (refund.state, refunds.due()) == (Refund.State.DONE, [])
    assert DemoBankRefund.objects.get().amount == Decimal("20.00")


def test_a_refund_that_the_provider_refuses_is_on_record_and_can_be_tried_again(
    ten_sold: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders.refund(ten_sold.pk, amount=Decimal("20.00"))
    refund = Refund.objects.get()

    def refuse(refund: Refund) -> None:
        raise payments.RefundRefused("The card has expired.")

    with monkeypatch.context() as patched:
        patched.setattr(payments, "refund", refuse)
        failed = refunds.carry_out(refund.pk)
    assert (failed.state, failed.problem) == (Refund.State.FAILED, "The card has expired.")
    assert refunds.carry_out(refund.pk).state == Refund.State.DONE
    assert charged_at_bank(ten_sold) == Decimal("85.00")


def test_a_provider_that_is_down_leaves_the_refund_due(
    ten_sold: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders.refund(ten_sold.pk, amount=Decimal("20.00"))

    def fail(refund: Refund) -> None:
        raise payments.ProviderUnavailable("No network.")

    with monkeypatch.context() as patched, pytest.raises(payments.ProviderUnavailable):
        patched.setattr(payments, "refund", fail)
        refunds.carry_out(Refund.objects.get().pk)
    assert refunds.due() == [Refund.objects.get().pk]


# Shipping


def test_shipped_once_with_its_tracking_reference(ten_sold: Order) -> None:
    at_once([lambda: orders.ship(ten_sold.pk, " TRACK-1 ")] * 3)
    order = now(ten_sold)
    assert (order.state, order.tracking) == (State.SHIPPED, "TRACK-1")
    assert len(queued("send_order_shipped")) == 1
    with pytest.raises(NotInThisState):
        orders.ship(order.pk, "TRACK-2")
    with pytest.raises(NotInThisState, match="can be refunded, not cancelled"):
        orders.cancel(order.pk)
    orders.refund(order.pk, restock=True)
    assert (now(order).state, stock(order)) == (State.REFUNDED, 10)


def test_only_what_is_paid_is_shipped(make_product: MakeProduct, ten_sold: Order) -> None:
    with pytest.raises(NotInThisState, match="can't be shipped"):
        orders.ship(place((make_product(), 1)).pk)
    with pytest.raises(ValidationError):
        orders.ship(ten_sold.pk, "x" * 101)
    assert now(ten_sold).state == State.PAID


@pytest.mark.parametrize("attempt", range(3))
def test_shipped_and_cancelled_at_once(ten_sold: Order, attempt: int) -> None:
    at_once([lambda: orders.ship(ten_sold.pk), lambda: orders.cancel(ten_sold.pk)])
    order = now(ten_sold)
    assert (order.state, stock(order)) in [(State.SHIPPED, 0), (State.CANCELLED, 10)]
