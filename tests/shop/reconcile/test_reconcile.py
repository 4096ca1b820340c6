"""Each situation after the restore of a backup, by itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.conf import LazySettings
from django.db import OperationalError, connection, transaction
from django.utils import timezone

from inventory import reservations, stock
from inventory.models import Product, Reservation
from shop import orders
from shop.models import Order, OrderLine, Payment, PaymentEvent, Refund, ShopAlert
from shop.orders import order_repair, refunds, statements
from shop.orders import reconcile as module
from shop.orders.copies import OrderCopy
from shop.orders.reconcile import Report, reconcile
from shop.payments.base import Outcome, ProviderUnavailable, RefundStatus
from tests.concurrency import at_once
from tests.conftest import MakeProduct
from tests.shop.orders.steps import go_to_bank, order_holds, place, queued, refunds_of, stock_of
from tests.shop.reconcile.backup import Backup, all_rows
from tests.shop.reconcile.memory_bank import Charge, MemoryBank

pytestmark = pytest.mark.django_db(transaction=True)

State = Order.State
Reason = Refund.Reason
BackUp = Callable[[], Backup]


def lose_everything_since(moment: datetime) -> None:
    """Delete the shop's rows that are younger, as a restore does, and put their units back."""
    lost = Order.objects.filter(placed_at__gte=moment)
    lines = OrderLine.objects.filter(order__in=lost)
    for line in lines.select_related("reservation"):
        reservation = line.reservation
        if reservation.status == Reservation.Status.SOLD and reservation.still_sold:
            Reservation.objects.filter(pk=reservation.pk).update(written_off=0)
            reservations.return_units(reservation.pk, reservation.still_sold)
        elif reservation.status == Reservation.Status.HELD:
            reservations.release(reservation.pk)
    ids = list(lines.values_list("reservation_id", flat=True))
    ShopAlert.objects.all().delete()
    for model, path in ((Refund, "payment__order"), (PaymentEvent, "payment__order")):
        model._base_manager.filter(**{f"{path}__in": lost}).delete()
    Payment.objects.filter(order__in=lost).delete()
    lines.delete()
    lost.delete()
    Reservation.objects.filter(pk__in=ids).delete()
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_jobs")


def charge_of(order: Order) -> Charge:
    return MemoryBank.charges[order.payments.latest("pk").key]


def pay(order: Order) -> Order:
    go_to_bank(order)
    charge_of(order).pay()
    return orders.settle(order.pk)


def carry_out() -> None:
    for refund_id in refunds.due_refunds():
        refunds.carry_out(refund_id)


def run(since: datetime, *, apply: bool = True) -> Report:
    return reconcile(since, ["memory"], apply=apply)


def again(order: Order) -> Order:
    return Order.objects.get(number=order.number)


@pytest.fixture
def since() -> datetime:
    return timezone.now()


# Unknown here


def test_a_paid_order_is_made_again(make_product: MakeProduct, since: datetime) -> None:
    pot, lid = make_product(3), make_product(3)
    before = pay(place((pot, 2), (lid, 1)))
    lines = list(before.lines.values_list("reservation_id", "sku", "quantity", "unit_price"))
    payment = before.payments.get()
    lose_everything_since(since)
    assert (stock_of(pot), stock_of(lid)) == (3, 3)

    report = run(since)

    order = again(before)
    assert order.state == State.PAID
    assert (order.token, order.buyer, order.placed_at) == (
        before.token,
        before.buyer,
        before.placed_at,
    )
    assert order.typed == before.typed
    assert order.email_key == before.email_key
    assert list(order.lines.values_list("reservation_id", "sku", "quantity", "unit_price")) == lines
    [made] = order.payments.all()
    assert (made.key, made.reference, made.copy, made.state) == (
        payment.key,
        payment.reference,
        payment.copy,
        Payment.State.PAID,
    )
    assert (stock_of(pot), stock_of(lid)) == (1, 2)
    assert report.findings == []
    assert [step.order for step in report.steps] == [order.number]
    assert queued("send_order_paid") == [{"order_id": order.pk}]
    assert queued("send_order_to_managers") == []


def test_the_money_goes_back_if_the_units_are_gone(
    make_product: MakeProduct, since: datetime
) -> None:
    pot = make_product(1)
    before = pay(place((pot, 1)))
    lose_everything_since(since)
    stock.remove(pot, 1, reason=stock.Reason.DAMAGE)
    report = run(since)
    carry_out()
    order = again(before)
    assert order.state == State.REFUNDED
    assert refunds_of(order) == [(Reason.OVERSOLD, before.total)]  # by our mistake, not too late
    assert charge_of(order).kept == 0
    assert report.counts["without units"] == 1
    assert queued("send_order_paid") == []
    assert len(queued("send_order_refunded")) >= 1


def test_lost_once_more(make_product: MakeProduct, since: datetime) -> None:
    """The backup is restored a second time, after the first time's refund of lost units."""
    pot = make_product(1)
    before = pay(place((pot, 1)))
    lose_everything_since(since)
    stock.remove(pot, 1, reason=stock.Reason.DAMAGE)
    run(since)
    carry_out()
    lose_everything_since(since)
    stock.receive(pot, 1)
    run(since)
    carry_out()
    order = again(before)
    assert order.is_closed
    assert stock_of(pot) == 1
    assert charge_of(order).kept == 0
    assert len(charge_of(order).refunds) == 1


def test_money_goes_back_of_an_order_that_was_paid_too_late(
    make_product: MakeProduct, back_up: BackUp
) -> None:
    pot = make_product(1)
    order = place((pot, 1))
    go_to_bank(order)
    since = timezone.now()
    backup = back_up()
    charge_of(order).pay()
    backup.restore()
    reservations.release(order.lines.get().reservation_id)
    stock.remove(pot, 1, reason=stock.Reason.DAMAGE)
    run(since)
    assert refunds_of(order) == [(Reason.GOODS_GONE, order.total)]


def test_a_hold_of_the_backup_becomes_the_sale(make_product: MakeProduct, since: datetime) -> None:
    """The hold was in the basket, with more units, when the backup was made."""
    pot = make_product(5)
    hold = reservations.reserve(pot, 3, buyer="A")
    reservations.shrink(hold.pk, 1)
    before = pay(order_holds([Reservation.objects.get(pk=hold.pk)]))
    lose_everything_since(since)
    back = reservations.reserve(pot, 3, buyer="A", reservation_id=hold.pk)
    assert (back.pk, stock_of(pot)) == (hold.pk, 2)
    run(since)
    order = again(before)
    sale = Reservation.objects.get(pk=hold.pk)
    assert (order.state, sale.status, sale.quantity, stock_of(pot)) == (State.PAID, "SOLD", 2, 3)


def test_an_ended_hold_of_the_backup_becomes_the_sale(
    make_product: MakeProduct, since: datetime
) -> None:
    pot = make_product(5)
    before = pay(place((pot, 3)))
    [hold_id] = before.lines.values_list("reservation_id", flat=True)
    lose_everything_since(since)
    reservations.reserve(pot, 3, buyer="A", reservation_id=hold_id)
    reservations.release(hold_id)
    run(since)
    assert again(before).state == State.PAID
    assert stock_of(pot) == 2


@pytest.mark.parametrize("change", ["buyer", "price", "sold"])
def test_a_reservation_that_is_another_one_is_left_alone(
    make_product: MakeProduct, since: datetime, change: str
) -> None:
    pot = make_product(5)
    before = pay(place((pot, 3)))
    [hold_id] = before.lines.values_list("reservation_id", flat=True)
    lose_everything_since(since)
    if change == "price":
        Product.objects.filter(pk=pot.pk).update(price=Decimal("99.00"))
    reservations.reserve(pot, 3, buyer="B" if change == "buyer" else "A", reservation_id=hold_id)
    if change == "sold":
        reservations.confirm(hold_id)
    rows = all_rows()
    report = run(since)
    assert len(report.findings) == 1
    assert not Order.objects.filter(number=before.number).exists()
    assert {**all_rows(), "shop_shopalert": rows["shop_shopalert"]} == rows


def test_a_buyer_who_is_still_at_the_bank(make_product: MakeProduct, since: datetime) -> None:
    pot = make_product(1)
    before = place((pot, 1))
    go_to_bank(before)
    charge = charge_of(before)
    lose_everything_since(since)
    run(since)
    order = again(before)
    assert (order.state, order.payments.get().state) == (State.PENDING, Payment.State.STARTED)
    assert orders.abandoned_orders() == []
    charge.pay()
    assert orders.settle(order.pk).state == State.PAID
    assert stock_of(pot) == 0


def test_a_payment_that_was_never_paid_is_only_counted(
    make_product: MakeProduct, since: datetime
) -> None:
    order = place((make_product(1), 1))
    go_to_bank(order)
    charge_of(order).decline()
    lose_everything_since(since)
    report = run(since)
    assert (report.steps, report.findings) == ([], [])
    assert report.counts["never paid"] == 1
    assert not Order.objects.exists()


def test_the_second_payment_of_an_order_whose_first_was_declined(
    make_product: MakeProduct, since: datetime
) -> None:
    before = place((make_product(2), 1))
    go_to_bank(before)
    charge_of(before).decline()
    orders.settle(before.pk)
    pay(before)
    lose_everything_since(since)
    run(since)
    assert again(before).state == State.PAID
    assert again(before).payments.count() == 1


def test_an_order_paid_twice(make_product: MakeProduct, since: datetime) -> None:
    """The first payment was declined here and paid late: it went back, and must not come first."""
    pot = make_product(2)
    before = place((pot, 1))
    go_to_bank(before)
    first = charge_of(before)
    first.decline()
    orders.settle(before.pk)
    pay(before)
    first.pay()
    orders.settle(before.pk)
    carry_out()
    assert refunds_of(before) == [(Reason.PAID_TWICE, before.total)]
    lose_everything_since(since)
    run(since)
    carry_out()
    order = again(before)
    assert order.state == State.PAID
    assert [charge.kept for charge in MemoryBank.charges.values()] == [0, order.total]
    assert order.kept() == order.total
    assert stock_of(pot) == 1


def test_two_payments_of_one_order_that_nobody_gave_back(
    make_product: MakeProduct, since: datetime
) -> None:
    """The shop broke down between the second payment and its refund."""
    before = place((make_product(2), 1))
    go_to_bank(before)
    first = charge_of(before)
    first.decline()
    orders.settle(before.pk)
    pay(before)
    first.pay()
    lose_everything_since(since)
    run(since)
    carry_out()
    order = again(before)
    assert order.state == State.PAID
    assert sum(charge.kept for charge in MemoryBank.charges.values()) == order.total


@pytest.mark.parametrize("reason", ["late", "closed"])
def test_money_that_went_back_without_goods(
    make_product: MakeProduct, since: datetime, reason: str
) -> None:
    """The units are there now. Yet the buyer has got the money back, and gets no goods."""
    pot = make_product(1)
    before = place((pot, 1))
    go_to_bank(before)
    if reason == "closed":
        orders.cancel(before.pk)
    else:
        reservations.release(before.lines.get().reservation_id)
        stock.remove(pot, 1, reason=stock.Reason.DAMAGE)
    charge = charge_of(before)
    charge.pay()
    orders.settle(before.pk)
    carry_out()
    state = Order.objects.get().state
    [(why, amount)] = refunds_of(before)
    lose_everything_since(since)
    if reason == "late":
        stock.receive(pot, 1)
    run(since)
    order = again(before)
    assert (order.state, refunds_of(order)) == (state, [(why, amount)])
    assert stock_of(pot) == 1
    assert charge.kept == 0
    assert len(charge.refunds) == 1


# Refunds


@pytest.mark.parametrize(
    ("whole", "restock"),
    [
        (True, False),
        (False, True),
        pytest.param(True, True, marks=pytest.mark.thorough),
        pytest.param(False, False, marks=pytest.mark.thorough),
    ],
)
def test_a_lost_refund_of_units(
    make_product: MakeProduct, back_up: BackUp, whole: bool, restock: bool
) -> None:
    pot = make_product(5)
    order = pay(place((pot, 3)))
    line = order.lines.get()
    since = timezone.now()
    backup = back_up()
    units = None if whole else {line.pk: 1}
    orders.refund(order.pk, units=units, restock=restock, note="A scratch")
    carry_out()
    refund = Refund.objects.get()
    expected = (again(order).state, stock_of(pot), again(order).lines.get().refunded)
    sale = Reservation.objects.values("returned", "written_off", "status").get()
    backup.restore()
    report = run(since)
    assert (again(order).state, stock_of(pot), again(order).lines.get().refunded) == expected
    assert Reservation.objects.values("returned", "written_off", "status").get() == sale
    made = Refund.objects.get()
    for name in ("key", "amount", "reason", "note", "state", "copy"):
        assert getattr(made, name) == getattr(refund, name)
    assert report.counts["refunds recorded"] == 1
    assert len(charge_of(order).refunds) == 1


def test_a_lost_cancellation_gives_the_last_unit_back(
    make_product: MakeProduct, back_up: BackUp
) -> None:
    """Ada's order was paid before the backup, and cancelled after it. Bob got the unit."""
    pot = make_product(1)
    ada = pay(place((pot, 1)))
    since = timezone.now()
    backup = back_up()
    orders.cancel(ada.pk)
    carry_out()
    bob = pay(place((pot, 1), buyer="B"))
    backup.restore()
    run(since)
    assert (again(ada).state, again(bob).state) == (State.CANCELLED, State.PAID)
    assert stock_of(pot) == 0
    assert charge_of(ada).kept == 0
    assert charge_of(bob).kept == bob.total


def test_units_that_a_lost_order_gave_to_another(
    make_product: MakeProduct, since: datetime
) -> None:
    """Bob's payment was started first, but paid late, with a unit that Ada gave back."""
    pot = make_product(2)
    bob = place((pot, 1), buyer="B")
    go_to_bank(bob)
    reservations.release(bob.lines.get().reservation_id)
    ada = pay(place((pot, 2)))
    charge_of(bob)
    orders.refund(ada.pk, units={ada.lines.get().pk: 1}, restock=True)
    carry_out()
    charge_of(bob).pay()
    assert orders.settle(bob.pk).state == State.PAID
    lose_everything_since(since)
    run(since)
    assert (again(ada).state, again(bob).state) == (State.PAID, State.PAID)
    assert stock_of(pot) == 0


def test_a_known_order_keeps_its_lapsed_hold(make_product: MakeProduct, back_up: BackUp) -> None:
    """Bob paid before Ada. Yet the unit that was there at the backup is the one of Ada's hold."""
    pot = make_product(1)
    ada = place((pot, 1))
    since = timezone.now()
    backup = back_up()
    stock.receive(pot, 1)  # lost
    bob = pay(place((pot, 1), buyer="B"))
    pay(ada)
    backup.restore()
    Reservation.objects.update(expires_at=timezone.now() - timedelta(minutes=1))
    run(since)
    assert (again(ada).state, again(bob).state) == (State.PAID, State.REFUNDED)


def test_a_refund_that_is_pending_or_failed_there(
    make_product: MakeProduct, back_up: BackUp
) -> None:
    pots = make_product(5)
    pending, failed = pay(place((pots, 1))), pay(place((pots, 1), buyer="B"))
    since = timezone.now()
    backup = back_up()
    MemoryBank.refunds_as = RefundStatus.PENDING
    for order in (pending, failed):
        orders.refund(order.pk, amount=Decimal("2.00"))
    carry_out()
    charge_of(failed).let_fail()
    backup.restore()
    run(since)
    states = {refund.payment.order_id: refund for refund in Refund.objects.all()}
    assert states[pending.pk].state == Refund.State.DUE
    assert states[failed.pk].state == Refund.State.FAILED
    assert states[failed.pk].attempt == 2
    assert ShopAlert.objects.filter(kind="REFUND_REFUSED").count() == 1
    carry_out()
    assert len(charge_of(pending).refunds) == 1


def test_a_refund_whose_decision_cannot_be_read(make_product: MakeProduct, back_up: BackUp) -> None:
    order = pay(place((make_product(2), 1)))
    since = timezone.now()
    backup = back_up()
    orders.refund(order.pk, restock=True)
    carry_out()
    backup.restore()
    charge = charge_of(order)
    charge.refunds[0] = replace(charge.refunds[0], copy="?")
    report = run(since)
    assert again(order).state == State.PAID
    assert again(order).kept() == charge.kept == 0
    assert len(report.findings) == 1
    assert order.number in report.findings[0].text
    assert run(since).steps == []


def test_a_refund_of_units_that_the_order_has_not(
    make_product: MakeProduct, back_up: BackUp
) -> None:
    order = pay(place((make_product(2), 1)))
    since = timezone.now()
    backup = back_up()
    orders.refund(order.pk, restock=True)
    carry_out()
    backup.restore()
    charge = charge_of(order)
    values = json.loads(charge.refunds[0].copy)
    values["units"] = {str(uuid4()): 1}
    charge.refunds[0] = replace(charge.refunds[0], copy=json.dumps(values))
    report = run(since)
    assert len(report.findings) == 1
    assert again(order).kept() == charge.kept
    assert Refund.objects.count() == 1


def test_a_lost_cancellation_of_an_order_that_was_sent_since(
    make_product: MakeProduct, back_up: BackUp
) -> None:
    """Staff opened the shop too early, and sent the parcel."""
    pot = make_product(1)
    order = pay(place((pot, 1)))
    since = timezone.now()
    backup = back_up()
    orders.cancel(order.pk)
    carry_out()
    backup.restore()
    orders.ship(order.pk)
    report = run(since)
    assert again(order).state == State.SHIPPED
    assert stock_of(pot) == 0
    assert ["has been shipped since" in finding.text for finding in report.findings] == [True]


def test_buyers_are_not_told_of_a_refund_again(make_product: MakeProduct, back_up: BackUp) -> None:
    order = pay(place((make_product(2), 1)))
    since = timezone.now()
    backup = back_up()
    orders.refund(order.pk, amount=Decimal("1.00"))
    carry_out()
    backup.restore()
    run(since)
    assert queued("send_order_paid") == [{"order_id": order.pk}]  # as it was in the backup
    assert Refund.objects.get().mailed_state == "DONE"
    assert queued("send_order_refunded") == []
    assert queued("carry_out_refund") == []


def test_the_alert_of_an_unknown_refund_is_resolved(
    make_product: MakeProduct, back_up: BackUp
) -> None:
    order = pay(place((make_product(2), 1)))
    since = timezone.now()
    backup = back_up()
    orders.refund(order.pk, amount=Decimal("1.00"))
    carry_out()
    backup.restore()
    statements.look_into(order.payments.get().pk)
    alerts = ShopAlert.objects.filter(kind="RESTORED", subject__startswith="payment")
    assert alerts.open().count() == 1
    run(since)
    assert alerts.open().count() == 0


# Money that went at the bank


def test_a_lost_order_that_is_disputed_keeps_its_units(
    make_product: MakeProduct, since: datetime
) -> None:
    pot = make_product(1)
    before = pay(place((pot, 1)))
    charge_of(before).dispute(before.total)
    lose_everything_since(since)
    report = run(since)
    order = again(before)
    assert (order.state, stock_of(pot)) == (State.PAID, 0)
    assert order.kept() == 0
    assert "Recorded: The buyer's bank has taken back €" in report.steps[0].done
    assert report.counts["news"] == 1
    charge_of(order).decide(won=True)
    run(since)
    assert again(before).kept() == before.total
    assert refunds_of(again(before)) == []


def test_a_lost_order_given_back_in_the_dashboard(
    make_product: MakeProduct, since: datetime
) -> None:
    """The units are gone: only what the bank still has goes back."""
    pot = make_product(1)
    before = pay(place((pot, 1)))
    charge_of(before).give_back(Decimal("3.00"))
    lose_everything_since(since)
    stock.remove(pot, 1, reason=stock.Reason.DAMAGE)
    run(since)
    carry_out()
    order = again(before)
    assert order.state == State.REFUNDED
    assert charge_of(order).kept == order.kept() == 0
    assert not Refund.objects.exclude(state=Refund.State.DONE).exists()


# Known here


def test_a_payment_that_is_open_here(make_product: MakeProduct, back_up: BackUp) -> None:
    pot = make_product(1)
    order = place((pot, 1))
    go_to_bank(order)
    since = timezone.now()
    backup = back_up()
    charge_of(order).pay()
    orders.settle(order.pk)
    backup.restore()
    run(since)
    assert again(order).state == State.PAID


def test_a_payment_whose_reference_was_not_yet_on_record(
    make_product: MakeProduct, since: datetime
) -> None:
    order = place((make_product(1), 1))
    go_to_bank(order)
    charge_of(order).pay()
    Payment.objects.update(reference="")
    run(since)
    assert order.payments.get().reference == charge_of(order).reference


def test_a_payment_that_was_started_long_before(make_product: MakeProduct) -> None:
    order = place((make_product(1), 1))
    go_to_bank(order)
    charge = charge_of(order)
    charge.started_at -= timedelta(days=2)
    charge.pay()
    run(timezone.now())
    assert again(order).state == State.PAID


def test_a_payment_that_is_declined_here_and_paid_there(
    make_product: MakeProduct, since: datetime
) -> None:
    order = place((make_product(1), 1))
    go_to_bank(order)
    charge_of(order).decline()
    orders.settle(order.pk)
    charge_of(order).pay()
    run(since)
    assert again(order).state == State.PAID


def test_a_payment_that_is_declined_there(make_product: MakeProduct, since: datetime) -> None:
    order = place((make_product(1), 1))
    go_to_bank(order)
    charge_of(order).decline()
    report = run(since)
    assert order.payments.get().state == Payment.State.DECLINED
    assert report.counts["declined"] == 1
    assert again(order).state == State.PENDING


def test_an_unknown_payment_of_a_known_order(make_product: MakeProduct, back_up: BackUp) -> None:
    """The order was placed before the backup, then corrected and paid."""
    pot = make_product(1)
    order = place((pot, 1))
    since = timezone.now()
    backup = back_up()
    corrected = Order(**{**order.typed, "street": "2 Side Street", "email": "B@example.org"})
    orders.correct_contact(order.pk, corrected)
    pay(again(order))
    backup.restore()
    run(since)
    order = again(order)
    assert (order.state, order.street, order.email_key) == (
        State.PAID,
        "2 Side Street",
        "b@example.org",
    )
    assert stock_of(pot) == 0


def test_an_unknown_payment_of_an_order_that_was_cancelled_meanwhile(
    make_product: MakeProduct, back_up: BackUp
) -> None:
    pot = make_product(1)
    order = place((pot, 1))
    since = timezone.now()
    backup = back_up()
    pay(order)
    backup.restore()
    orders.cancel(order.pk)
    run(since)
    carry_out()
    assert refunds_of(order) == [(Reason.PAID_AFTER_END, order.total)]
    assert stock_of(pot) == 1


# Left for a person


@pytest.mark.parametrize("copy", ["", "?", "sku", "total", "number", "lines"])
def test_an_order_that_cannot_be_made_again(
    make_product: MakeProduct, since: datetime, copy: str
) -> None:
    pot = make_product(2)
    before = pay(place((pot, 1)))
    charge = charge_of(before)
    values = json.loads(charge.copy)
    lose_everything_since(since)
    if copy == "sku":
        values["lines"][0]["sku"] = "GONE"
    elif copy == "total":
        values["total"] = values["shipping_cost"] = "100.00"
        values["lines"][0]["unit_price"] = "0.00"
    elif copy == "number":
        other = pay(place((pot, 1), buyer="B"))
        values["number"] = other.number
    elif copy == "lines":
        other = pay(place((pot, 1), buyer="B"))
        values["lines"][0]["reservation"] = str(other.lines.get().reservation_id)
    charge.copy = json.dumps(values) if len(copy) > 1 else copy
    report = run(since)
    [finding] = report.findings
    assert charge.reference in str(finding)
    assert "€24.90" in str(finding)
    assert f"https://bank.example.com/dashboard/{charge.reference}" in str(finding)
    assert not Order.objects.filter(token=before.token).exists()
    alerts = ShopAlert.objects.filter(kind="RESTORED", text=str(finding))
    assert alerts.count() == 1
    run(since)
    assert alerts.count() == 1
    if copy == "sku":
        assert "GONE" in str(finding)
        assert before.number in run(since).findings[0].text
        stock.receive(make_product(0, sku="GONE"), 1)
        assert run(since).to_ship == [before.number]
        assert again(before).state == State.PAID
        assert not alerts.open().exists()


def test_the_alert_says_what_is_wrong_now(make_product: MakeProduct, since: datetime) -> None:
    order = pay(place((make_product(2), 1)))
    charge, sku = charge_of(order), order.lines.get().sku
    copy, charge.copy = charge.copy, ""
    lose_everything_since(since)
    run(since)
    alert = ShopAlert.objects.get()
    charge.copy = copy.replace(sku, "GONE")
    [finding] = run(since).findings
    alert.refresh_from_db()
    assert alert.text == str(finding)


def test_a_trouble_that_a_person_has_acknowledged_is_no_news(
    make_product: MakeProduct, since: datetime
) -> None:
    charge = charge_of(pay(place((make_product(2), 1))))
    lose_everything_since(since)
    charge.copy = ""
    run(since)
    ShopAlert.objects.update(acknowledged_at=timezone.now(), resolved_at=timezone.now())
    assert len(run(since).findings) == 1
    assert not ShopAlert.objects.open().exists()


def test_alerts_of_the_wrong_account_end_with_the_right_one(
    make_product: MakeProduct, since: datetime
) -> None:
    paid, refunded = pay(place((make_product(2), 1))), pay(place((make_product(2), 1), buyer="B"))
    orders.refund(refunded.pk, amount=Decimal("2.00"))
    carry_out()
    charges = dict(MemoryBank.charges)
    [record] = charge_of(refunded).refunds
    alerts = ShopAlert.objects.open().filter(text__contains="Is it the right account?")
    for _ in range(2):  # they come back, and go again
        charge_of(refunded).refunds.clear()
        del MemoryBank.charges[paid.payments.get().key]
        run(since)
        assert alerts.count() == 2
        MemoryBank.charges.update(charges)
        charge_of(refunded).refunds.append(record)
        run(since)
        assert alerts.count() == 0


def test_ours_that_the_bank_does_not_know(make_product: MakeProduct, since: datetime) -> None:
    paid, refunded = pay(place((make_product(2), 1))), pay(place((make_product(2), 1), buyer="B"))
    orders.refund(refunded.pk, amount=Decimal("2.00"))
    carry_out()
    charge_of(refunded).refunds.clear()
    del MemoryBank.charges[paid.payments.get().key]
    rows = all_rows()
    report = run(since, apply=False)
    assert [finding.text.split(",")[0] for finding in report.findings] == [
        f"Order {paid.number} is paid here",
        f"€2.00 of order {refunded.number} are given back here",
    ]
    assert all_rows() == rows


def test_another_sum_than_ours(make_product: MakeProduct, since: datetime) -> None:
    order = place((make_product(2), 1))
    go_to_bank(order)
    charge_of(order).amount += 1
    charge_of(order).pay()
    report = run(since)
    assert len(report.findings) == 1
    assert again(order).state == State.PENDING


# One payment keeps none of the others


def test_a_payment_that_the_provider_does_not_know(
    lost: list[Order], make_product: MakeProduct, since: datetime
) -> None:
    stranger = place((make_product(1), 1), buyer="C")
    go_to_bank(stranger)
    del MemoryBank.charges[stranger.payments.get().key]
    MemoryBank.is_another_account = True
    report = run(since)
    [finding] = report.findings
    assert stranger.number in finding.text
    assert "No such payment: 'ch_" in finding.text
    assert "Is it of another account?" in finding.text
    assert ShopAlert.objects.filter(kind="RESTORED", text=str(finding)).count() == 1
    assert again(stranger).state == State.PENDING
    assert_all_made_again(lost)


@pytest.mark.parametrize("is_known", [True, False])
def test_a_payment_whose_statement_cannot_be_read(
    lost: list[Order], make_product: MakeProduct, since: datetime, is_known: bool
) -> None:
    pot = make_product(1)
    odd = place((pot, 1), buyer="C")
    go_to_bank(odd)
    charge = charge_of(odd)
    charge.problem = "The bank's answer makes no sense."
    if is_known:
        charge.pay()
        orders.settle(odd.pk)
        orders.refund(odd.pk, amount=Decimal("1.00"))
        carry_out()
        charge.refunds.clear()  # its statement is empty, and says nothing
    else:
        lose_everything_since(since)
    report = run(since)
    [finding] = report.findings
    assert charge.reference in str(finding)
    assert charge.problem in finding.text
    assert Order.objects.filter(number=odd.number).exists() == is_known
    assert_all_made_again(lost)


def test_a_fault_of_the_program_with_one_order(
    lost: list[Order],
    make_product: MakeProduct,
    since: datetime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = lost[0]
    make_order = order_repair.OrderRepair._make_order

    def fail(repair: order_repair.OrderRepair, copy: OrderCopy) -> Order:
        if copy.order.number == broken.number:
            raise KeyError("a fault")
        return make_order(repair, copy)

    monkeypatch.setattr(order_repair.OrderRepair, "_make_order", fail)
    report = run(since)
    [finding] = report.findings
    assert "KeyError: 'a fault'" in finding.text
    assert not Order.objects.filter(number=broken.number).exists()
    assert_all_made_again(lost[1:])


def test_a_row_that_the_database_refuses_is_not_shown(
    lost: list[Order], since: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The finding is printed, and mailed as an alert."""

    def fail(repair: order_repair.OrderRepair, copy: OrderCopy) -> Order:
        with connection.cursor() as cursor:
            cursor.execute("CREATE TEMPORARY TABLE strict (name text CHECK (name = ''))")
            cursor.execute("INSERT INTO strict VALUES ('Ada Lovelace')")
        raise AssertionError("PostgreSQL took the row.")

    monkeypatch.setattr(order_repair.OrderRepair, "_make_order", fail)
    findings = run(since).findings
    assert findings
    for finding in findings:
        assert "violates check constraint" in finding.text
        assert "Ada" not in finding.text


def test_a_payment_that_cannot_be_read_every_night(
    make_product: MakeProduct, caplog: pytest.LogCaptureFixture
) -> None:
    odd, other = pay(place((make_product(1), 1))), pay(place((make_product(1), 1), buyer="B"))
    charge_of(odd).problem = "The bank's answer makes no sense."
    for order in (odd, other):
        charge_of(order).give_back(Decimal("1.00"))
    statements.look_into_recent()
    assert (refunds_of(odd), refunds_of(other)) == ([], [(Reason.AT_PROVIDER, Decimal("1.00"))])
    assert "The bank's answer makes no sense." in caplog.text


def assert_all_made_again(lost: list[Order]) -> None:
    numbers = {order.number for order in lost}
    assert set(Order.objects.filter(number__in=numbers).values_list("number", flat=True)) == numbers


# The run itself


@pytest.fixture
def lost(make_product: MakeProduct, since: datetime) -> list[Order]:
    """Three lost orders of a pot: two paid, one of them refunded in part, and one without units."""
    pot = make_product(3, price=Decimal("10.00"))
    one, two = pay(place((pot, 1))), pay(place((pot, 2), buyer="B"))
    orders.refund(two.pk, units={two.lines.get().pk: 1}, restock=True)
    carry_out()
    three = pay(place((pot, 1), buyer="C"))
    lose_everything_since(since)
    stock.remove(pot, 1, reason=stock.Reason.DAMAGE)
    return [one, two, three]


def ends() -> list[tuple[Any, ...]]:
    return [
        (order.number, order.state, order.kept(), refunds_of(order))
        for order in Order.objects.order_by("number")
    ]


def test_a_plan_changes_no_row_and_says_what_would_be_done(
    lost: list[Order], since: datetime
) -> None:
    rows = all_rows()
    plan = run(since, apply=False)
    assert all_rows() == rows
    done = run(since)
    assert plan.steps == done.steps
    assert plan.counts == done.counts
    assert plan.counts["without units"] == 1
    assert [step.order for step in plan.steps if "can't be had" in step.done] == [lost[2].number]


def test_a_second_run_finds_nothing_to_do(lost: list[Order], since: datetime) -> None:
    run(since)
    carry_out()
    first, rows = ends(), len(ShopAlert.objects.all())
    report = run(since)
    assert (report.steps, report.findings, report.to_ship) == ([], [], [])
    assert (ends(), len(ShopAlert.objects.all())) == (first, rows)


def test_killed_at_any_point_and_run_again(
    lost: list[Order], since: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed_at(number: int) -> None:
        """Run until so many statements were sent."""
        left = number

        def count(execute: Any, *arguments: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return execute(*arguments)

        with connection.execute_wrapper(count), pytest.raises(Killed):
            run(since)

    for number in range(5, 400, 23):
        try:
            killed_at(number)
        except pytest.fail.Exception:
            break  # it was done before
    else:
        pytest.fail("It never got to its end.")
    carry_out()
    assert [state for _, state, *_ in ends()].count(State.PAID) == 2
    assert sum(order.kept() for order in Order.objects.all()) == sum(
        charge.kept for charge in MemoryBank.charges.values()
    )
    assert sorted(again(order).state for order in lost) == ["PAID", "PAID", "REFUNDED"]
    assert run(since).steps == []


def test_two_at_once(lost: list[Order], since: datetime) -> None:
    results = at_once([lambda: run(since)] * 4)
    assert [each for each in results if not isinstance(each, Report)] == []
    assert all(each.findings == [] for each in results)
    carry_out()
    assert sorted(again(order).state for order in lost) == ["PAID", "PAID", "REFUNDED"]
    assert [step for each in results for step in each.steps if step.done.startswith("Order made")]
    assert Refund.objects.count() == 2
    assert sum(order.kept() for order in Order.objects.all()) == sum(
        charge.kept for charge in MemoryBank.charges.values()
    )


def test_a_plan_does_not_wait_for_a_busy_shop(lost: list[Order], since: datetime) -> None:
    pot = Product.objects.get()

    def plan() -> None:
        with pytest.raises(OperationalError, match="lock timeout"):
            with connection.cursor() as cursor:
                cursor.execute("SET statement_timeout = '10s'")
            run(since, apply=False)

    with transaction.atomic():
        Product.objects.select_for_update().get(pk=pot.pk)
        assert at_once([plan]) == [None]


def test_a_provider_that_is_down(lost: list[Order], since: datetime) -> None:
    MemoryBank.is_down = True
    rows = all_rows()
    with pytest.raises(ProviderUnavailable):
        run(since)
    assert all_rows() == rows


def test_orders_that_may_have_been_sent(make_product: MakeProduct, since: datetime) -> None:
    pots = make_product(5)
    waiting, sent = pay(place((pots, 1))), pay(place((pots, 1), buyer="B"))
    orders.ship(sent.pk)
    report = run(since)
    assert report.to_ship == [waiting.number]
    alert = ShopAlert.objects.get(kind="RESTORED")
    assert waiting.number in alert.text
    assert sent.number not in alert.text
    assert run(since).to_ship == []
    assert ShopAlert.objects.count() == 1


def test_orders_of_a_later_run_may_have_been_sent_too(
    make_product: MakeProduct, since: datetime, settings: LazySettings
) -> None:
    settings.MANAGERS = [("", "boss@example.org")]
    pots = make_product(5)
    first, later = pay(place((pots, 1))), pay(place((pots, 1), buyer="B"))
    copy, charge_of(later).copy = charge_of(later).copy, ""
    charge = charge_of(later)
    lose_everything_since(since)
    assert run(since).to_ship == [first.number]
    new = pay(place((pots, 1), buyer="C"))  # the shop is open again
    charge.copy = copy
    assert run(since).to_ship == [later.number]
    texts = ShopAlert.objects.filter(kind="RESTORED", text__contains="Check before")
    assert [
        text.split(": ")[-1] for text in texts.order_by("pk").values_list("text", flat=True)
    ] == [
        f"{first.number}.",
        f"{later.number}.",
    ]
    assert run(since).to_ship == []
    assert not texts.filter(text__contains=new.number).exists()
    # Managers who read of the others as of new orders would send them once more.
    assert queued("send_order_to_managers") == [{"order_id": new.pk}]


def test_the_margin_before_the_backup(make_product: MakeProduct) -> None:
    """The provider's clock is another, and a payment was being started when the backup was made."""
    before = pay(place((make_product(2), 1)))
    lose_everything_since(before.placed_at)
    run(timezone.now() + module.MARGIN / 2)
    assert again(before).state == State.PAID


def test_outcomes_are_all_known() -> None:
    assert set(module.PAYMENT_STATES) == set(Outcome)
    assert set(order_repair.REFUND_STATES) == set(RefundStatus)


def test_a_hold_of_the_backup_that_ended_later(make_product: MakeProduct, back_up: BackUp) -> None:
    """Ada's hold was in the backup. She gave it up, and Bob bought the unit."""
    pot = make_product(1)
    hold = reservations.reserve(pot, 1, buyer="A")
    since = timezone.now()
    backup = back_up()
    reservations.release(hold.pk)
    bob = pay(place((pot, 1), buyer="B"))
    backup.restore()
    run(since)
    assert again(bob).state == State.PAID
    hold.refresh_from_db()
    assert hold.status == Reservation.Status.EXPIRED


def test_a_hold_whose_buyer_is_at_the_bank_stays(
    make_product: MakeProduct, since: datetime
) -> None:
    pot = make_product(1)
    bob = pay(place((pot, 1), buyer="B"))
    lose_everything_since(since)
    ada = place((pot, 1))
    go_to_bank(ada)
    run(timezone.now())
    assert ada.lines.get().reservation.status == Reservation.Status.HELD
    assert again(bob).state == State.REFUNDED


def test_it_races_with_a_shop_that_is_open(make_product: MakeProduct, since: datetime) -> None:
    """The worker settles the payment, and staff cancel the order, at the same moment."""
    for number in range(5):
        pot = make_product(1)
        order = place((pot, 1), buyer=f"buyer-{number}")
        go_to_bank(order)
        charge_of(order).pay()
        results = at_once(
            [
                lambda: run(since),
                lambda: orders.settle(order.pk),
                lambda: orders.cancel(order.pk),
                lambda: run(since),
            ]
        )
        assert [each for each in results if isinstance(each, Exception)] == []
        carry_out()
        assert again(order).state == State.CANCELLED
        assert (stock_of(pot), len(charge_of(order).refunds)) == (1, 1)
        assert charge_of(order).kept == 0
