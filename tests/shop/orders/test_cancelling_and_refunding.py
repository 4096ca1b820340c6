"""Units come back once, money goes back once, and never more than was paid."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.core import mail
from django.core.exceptions import ValidationError
from django.db.models.functions import Now
from django.test import Client

from inventory.exceptions import BuyerLimitExceeded
from shop import orders, payments
from shop.exceptions import InvalidRefund, LimitPerCustomer, NotInThisState, OrderChanged
from shop.models import DemoBankRefund, Order, Refund
from shop.orders import refunds
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


def test_units_come_back_once_if_cancelled_twice_and_in_two_tabs(ten_sold: Order) -> None:
    results = at_once([lambda: orders.cancel(ten_sold.pk)] * 4)
    assert len(of_kind(results, Order)) == 4
    orders.cancel(ten_sold.pk)
    assert stock(ten_sold) == 10
    assert refunds_of(ten_sold) == [(Reason.CANCELLED, ALL)]


def test_units_come_back_once_if_restocked_and_then_cancelled(ten_sold: Order) -> None:
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


def test_units_refunded_without_restock_do_not_come_back_by_cancelling(
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


def test_the_message_paid_comes_again_after_refund_and_restock(ten_sold: Order) -> None:
    orders.refund(ten_sold.pk, restock=True)
    before = refunds_of(ten_sold)
    orders.settle(ten_sold.pk)
    assert (now(ten_sold).state, stock(ten_sold)) == (State.REFUNDED, 10)
    assert refunds_of(ten_sold) == before


# Refunding in part


def test_the_last_units_take_the_shipping_cost_along(ten_sold: Order) -> None:
    orders.refund(ten_sold.pk, units={line_of(ten_sold): 4})
    assert (now(ten_sold).state, stock(ten_sold)) == (State.PAID, 0)
    orders.refund(ten_sold.pk, units={line_of(ten_sold): 6}, restock=True)
    assert (now(ten_sold).state, stock(ten_sold)) == (State.REFUNDED, 6)
    assert [amount for _, amount in refunds_of(ten_sold)] == [Decimal("40.00"), Decimal("65.00")]


def test_after_a_part_of_the_price_no_more_than_the_rest_is_refunded(ten_sold: Order) -> None:
    orders.refund(ten_sold.pk, amount=Decimal("50.00"), note="Scratched")
    orders.refund(ten_sold.pk, restock=True)
    assert now(ten_sold).refunded() == ALL
    assert (now(ten_sold).state, stock(ten_sold)) == (State.REFUNDED, 10)


@pytest.mark.parametrize(
    "amount", ["0", "-1", "105.01", "0.001", "1e30", "NaN", "sNaN", "Infinity", "-Infinity"]
)
def test_an_amount_that_makes_no_sense_is_an_error(ten_sold: Order, amount: str) -> None:
    with pytest.raises(InvalidRefund, match="amount must be"):
        orders.refund(ten_sold.pk, amount=Decimal(amount))
    assert refunds_of(ten_sold) == []


@pytest.mark.parametrize("units", [0, -1, 11, True, "2", 1.5])
def test_units_that_make_no_sense_are_an_error(ten_sold: Order, units: object) -> None:
    with pytest.raises(InvalidRefund):
        orders.refund(ten_sold.pk, units={line_of(ten_sold): units})  # type: ignore[dict-item]
    with pytest.raises(InvalidRefund, match="isn't one of the order's"):
        orders.refund(ten_sold.pk, units={0: 1})
    with pytest.raises(InvalidRefund, match="one or the other"):
        orders.refund(ten_sold.pk, amount=Decimal("1.00"), restock=True)
    assert (refunds_of(ten_sold), stock(ten_sold)) == ([], 0)


def test_a_refund_sent_twice_at_once_with_the_sum_seen_happens_once(ten_sold: Order) -> None:
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


# Units and money come back in any order


def test_units_come_back_when_no_money_is_left(ten_sold: Order) -> None:
    orders.refund(ten_sold.pk, amount=ALL)
    assert now(ten_sold).state == State.PAID
    for back in range(1, 11):
        orders.refund(ten_sold.pk, units={line_of(ten_sold): 1}, restock=True)
        assert stock(ten_sold) == back
    assert now(ten_sold).state == State.REFUNDED
    assert refunds_of(ten_sold) == [(Reason.GOODWILL, ALL)]


def test_an_order_whose_money_went_back_can_be_cancelled(ten_sold: Order) -> None:
    orders.refund(ten_sold.pk, amount=ALL)
    orders.cancel(ten_sold.pk)
    assert (now(ten_sold).state, stock(ten_sold)) == (State.CANCELLED, 10)
    assert refunds_of(ten_sold) == [(Reason.GOODWILL, ALL)]


def test_goods_that_cost_nothing_come_back(make_product: MakeProduct, settings: Any) -> None:
    settings.SHIPPING_COST = Decimal(0)
    order = place((make_product(3, price=Decimal(0)), 3))
    go_to_bank(order)
    line = line_of(order)
    orders.refund(order.pk, units={line: 1}, restock=True, seen=Decimal(0), seen_units=0)
    with pytest.raises(OrderChanged, match="1 unit is taken off the order already"):
        orders.refund(order.pk, units={line: 1}, restock=True, seen=Decimal(0), seen_units=0)
    assert (now(order).state, stock(order)) == (State.PAID, 1)
    orders.refund(order.pk, restock=True)
    assert (now(order).state, stock(order)) == (State.REFUNDED, 3)
    assert refunds_of(order) == []


@pytest.mark.parametrize("then", ["nothing", "ship", "cancel", "refund the rest"])
def test_units_refunded_off_sale_can_be_put_on_sale_later(ten_sold: Order, then: str) -> None:
    line = line_of(ten_sold)
    orders.refund(ten_sold.pk, units={line: 4})
    if then == "ship":
        orders.ship(ten_sold.pk)
    elif then == "cancel":
        orders.cancel(ten_sold.pk)
    elif then == "refund the rest":
        orders.refund(ten_sold.pk)
    off_sale = 10 if then == "refund the rest" else 4
    before = stock(ten_sold)
    with pytest.raises(InvalidRefund, match=f"{off_sale} are left"):
        orders.restock(ten_sold.pk, {line: off_sale + 1})
    state = now(ten_sold).state
    orders.restock(ten_sold.pk, {line: 1})
    orders.restock(ten_sold.pk, {line: off_sale - 1})
    assert (now(ten_sold).state, stock(ten_sold)) == (state, before + off_sale)
    with pytest.raises(InvalidRefund, match="0 are left"):
        orders.restock(ten_sold.pk, {line: 1})


def test_units_put_on_sale_from_two_tabs_at_once_count_once(ten_sold: Order) -> None:
    line = line_of(ten_sold)
    orders.refund(ten_sold.pk, units={line: 4})

    def put_back() -> Order:
        return orders.restock(ten_sold.pk, {line: 2}, seen_units=0)

    results = at_once([put_back] * 3)
    assert (len(of_kind(results, Order)), len(of_kind(results, OrderChanged))) == (1, 2)
    assert stock(ten_sold) == 2


def test_units_that_the_buyer_has_are_not_put_on_sale(ten_sold: Order) -> None:
    with pytest.raises(InvalidRefund, match="0 are left"):
        orders.restock(ten_sold.pk, {line_of(ten_sold): 1})
    assert stock(ten_sold) == 0


def test_a_closed_order_with_units_still_sold_gives_them_back(ten_sold: Order) -> None:
    """An earlier version closed an order with its last money, whatever units were left."""
    orders.refund(ten_sold.pk, amount=ALL)
    Order.objects.filter(pk=ten_sold.pk).update(state=State.REFUNDED, closed_at=Now())
    orders.restock(ten_sold.pk, {line_of(ten_sold): 10})
    assert stock(ten_sold) == 10


# A limit per customer counts the units that the customer has


def limited(make_product: MakeProduct) -> Order:
    order = place((make_product(9, max_per_buyer=1), 1))
    at_bank(order, APPROVE)
    return orders.settle(order.pk)


def order_another(order: Order, **who: str) -> Order:
    return place((order.lines.get().reservation.product, 1), **who)


@pytest.mark.parametrize("restock", [True, False])
def test_units_given_back_can_be_replaced_within_the_limit(
    make_product: MakeProduct, restock: bool
) -> None:
    order = limited(make_product)
    with pytest.raises(BuyerLimitExceeded):
        order_another(order)
    with pytest.raises(LimitPerCustomer):
        order_another(order, buyer="B", email=order.email)
    orders.refund(order.pk, restock=restock)
    order_another(order, buyer="C", email=order.email)
    with pytest.raises(LimitPerCustomer):
        order_another(order, buyer="D", email=order.email)


def test_money_given_back_for_no_units_frees_none_of_the_limit(make_product: MakeProduct) -> None:
    order = limited(make_product)
    orders.refund(order.pk, amount=order.total)
    with pytest.raises(BuyerLimitExceeded):
        order_another(order)


def test_units_put_on_sale_later_do_not_free_the_limit_twice(make_product: MakeProduct) -> None:
    order = limited(make_product)
    orders.refund(order.pk)
    order_another(order)
    orders.restock(order.pk, {line_of(order): 1})
    with pytest.raises(BuyerLimitExceeded):
        order_another(order)


# Carrying it out


def test_a_refund_carried_out_many_times_at_once_is_one_at_the_bank(ten_sold: Order) -> None:
    orders.refund(ten_sold.pk, amount=Decimal("20.00"))
    refund = Refund.objects.get()
    assert refunds.due_refunds() == [refund.pk]
    results = at_once([lambda: refunds.carry_out(refund.pk)] * 4)
    assert len(of_kind(results, Refund)) == 4, results
    refund.refresh_from_db()
    assert (refund.state, refunds.due_refunds()) == (Refund.State.DONE, [])
    assert DemoBankRefund.objects.get().amount == Decimal("20.00")


def test_a_refund_that_the_provider_declines_is_on_record_and_can_be_tried_again(
    ten_sold: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders.refund(ten_sold.pk, amount=Decimal("20.00"))
    refund = Refund.objects.get()

    def decline(refund: Refund) -> None:
        raise payments.RefundDeclined("The card has expired.")

    with monkeypatch.context() as patched:
        patched.setattr(payments, "refund", decline)
        failed = refunds.carry_out(refund.pk)
    assert (failed.state, failed.problem) == (Refund.State.FAILED, "The card has expired.")
    assert refunds.carry_out(refund.pk).state == Refund.State.DONE
    assert charged_at_bank(ten_sold) == Decimal("85.00")


def test_a_refund_declined_for_good_can_be_given_back_by_hand(
    ten_sold: Order, monkeypatch: pytest.MonkeyPatch, admin_client: Client
) -> None:
    orders.refund(ten_sold.pk, amount=Decimal("20.00"), note="Scratched")
    refund = Refund.objects.get()
    with pytest.raises(NotInThisState, match="has not declined this refund"):
        refunds.record_by_hand(refund.pk, "transfer")

    def decline(refund: Refund) -> None:
        raise payments.RefundDeclined("The card has expired.")

    monkeypatch.setattr(payments, "refund", decline)
    refunds.carry_out(refund.pk)
    for how in ("x" * 201, "", " "):  # no words would read as if the provider had done it
        with pytest.raises(ValidationError):
            refunds.record_by_hand(refund.pk, how)
    page = f"/admin/shop/refund/{refund.pk}/by-hand/"
    for _ in range(2):
        answer = admin_client.post(page, {"how": "transfer of 1 May"}, follow=True)
        assert "€20.00 were given back by hand: transfer of 1 May." in answer.content.decode()
    refund.refresh_from_db()
    assert (refund.state, refund.by_hand) == (Refund.State.DONE, "transfer of 1 May")
    assert refunds.carry_out(refund.pk).state == Refund.State.DONE  # and no provider was asked
    do_jobs("send_order_refunded")
    assert "by another way than you paid" in str(mail.outbox[-1].body)


def test_a_provider_that_is_down_leaves_the_refund_due(
    ten_sold: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders.refund(ten_sold.pk, amount=Decimal("20.00"))

    def fail(refund: Refund) -> None:
        raise payments.ProviderUnavailable("No network.")

    with monkeypatch.context() as patched, pytest.raises(payments.ProviderUnavailable):
        patched.setattr(payments, "refund", fail)
        refunds.carry_out(Refund.objects.get().pk)
    assert refunds.due_refunds() == [Refund.objects.get().pk]


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


def test_only_paid_orders_are_shipped(make_product: MakeProduct, ten_sold: Order) -> None:
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
