"""The steps of buyers, banks and workers, in one call each; and a check after all of them."""

from __future__ import annotations

import itertools
from decimal import Decimal
from typing import Any

from django.db import connection
from django.db.models import F, Sum
from django.db.models.functions import Now
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob

from inventory import reservations
from inventory.models import Product, Reservation
from shop.models import (
    DemoBankCharge,
    DemoBankDispute,
    DemoBankRefund,
    Dispute,
    Order,
    Payment,
    Refund,
)
from shop.orders import checkout, statements
from shop.payments import demo
from shop.payments.demo import Choice

RETURN_URL = "http://testserver/orders/x/"
APPROVE, DECLINE = Choice.APPROVE, Choice.DECLINE

_numbers = itertools.count(1)


def place(
    *lines: tuple[Product, int], buyer: str = "A", email: str = "", key: str | None = None
) -> Order:
    """An order of new holds of these products and units."""
    holds = [reservations.reserve(product, units, buyer=buyer) for product, units in lines]
    return order_holds(holds, buyer=buyer, email=email, key=key)


def order_holds(
    holds: list[Reservation],
    *,
    buyer: str = "A",
    email: str = "",
    key: str | None = None,
    seen_total: Decimal | None = None,
) -> Order:
    return checkout.place_order(
        buyer,
        [hold.pk for hold in holds],
        Order(
            name="Ada",
            email=email or f"{buyer.lower()}@example.org",
            street="1 Main Street",
            postcode="10115",
            town="Springfield",
            country="DE",
        ),
        idempotency_key=key or f"key-{next(_numbers)}",
        seen_total=seen_total,
    )


def go_to_bank(order: Order) -> str:
    return checkout.start_payment(order.pk, return_url=RETURN_URL)


def at_bank(order: Order, choice: Choice) -> DemoBankCharge:
    """Go to the bank and choose there; the shop gets no message."""
    return demo.choose(go_to_bank(order).rstrip("/").split("/")[-1], choice)


def choose_again(payment: Payment, choice: Choice) -> DemoBankCharge:
    """Choose on the page of a payment that was started before."""
    return demo.choose(payment.reference, choice)


def now(order: Order) -> Order:
    order.refresh_from_db()
    return order


def stock_of(product: Product) -> int:
    product.refresh_from_db()
    return product.stock


def wait_after_no(order: Order) -> None:
    """Let the time go by in which the bank isn't asked again for a payment that it won't take."""
    order.payments.update(decided_at=F("decided_at") - checkout.ASK_AGAIN_AFTER)


def lapse_all(order: Order, *, by_minutes: int = 0) -> None:
    """Let the order's holds lapse at that time."""
    Reservation.objects.filter(order_line__order=order).update(expires_at=Now())
    if by_minutes:
        with connection.cursor() as cursor:
            cursor.execute(
                "UPDATE inventory_reservation SET expires_at = expires_at - %s * interval '1 min'"
                " WHERE id IN (SELECT reservation_id FROM shop_orderline WHERE order_id = %s)",
                [by_minutes, order.pk],
            )


def close_payment_time(order: Order) -> None:
    """End the time in which the bank takes an approval."""
    order.payments.update(expires_at=Now())
    keys = order.payments.values_list("key")
    DemoBankCharge.objects.filter(key__in=keys).update(expires_at=Now())


def queued(task: str) -> list[dict[str, Any]]:
    """The arguments of the jobs of this task that wait to be done."""
    jobs = ProcrastinateJob.objects.filter(task_name__endswith=f".tasks.{task}", status="todo")
    return [job.args for job in jobs.order_by("id")]


def do_jobs(*tasks: str) -> None:
    """Do the waiting jobs of these tasks, as a worker would."""
    for task in tasks:
        for arguments in queued(task):
            app.tasks[f"shop.tasks.{task}"](**arguments)
        delete_jobs(task)


def delete_jobs(task: str | None = None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM procrastinate_jobs WHERE %s::text IS NULL OR task_name = %s",
            [task, f"shop.tasks.{task}"],
        )
        if task is None:
            cursor.execute("DELETE FROM procrastinate_periodic_defers")
            cursor.execute("DELETE FROM procrastinate_workers")


def refunds_of(order: Order) -> list[tuple[str, Decimal]]:
    refunds = Refund.objects.filter(payment__order=order).order_by("pk")
    return [(refund.reason, refund.amount) for refund in refunds]


# The bank's own books


def charge_of(order: Order) -> DemoBankCharge:
    """The bank's charge of the order's one payment that was approved."""
    keys = order.payments.values_list("key")
    return DemoBankCharge.objects.get(key__in=keys, state=DemoBankCharge.State.APPROVED)


def refund_at_bank(order: Order, amount: Decimal) -> DemoBankRefund:
    """Staff give the amount back on the bank's page; the shop gets no message."""
    return DemoBankRefund.objects.create(charge=charge_of(order), amount=amount)


def fail_at_bank(*refunds: DemoBankRefund) -> None:
    """Money that the bank gave back comes back to it."""
    for refund in refunds:
        refund.state = DemoBankRefund.State.FAILED
        refund.save()


def dispute_at_bank(order: Order, amount: Decimal | None = None) -> DemoBankDispute:
    """The buyer's bank takes the amount back, or all that was charged."""
    charge = charge_of(order)
    return DemoBankDispute.objects.create(charge=charge, amount=amount or charge.amount)


def decide_at_bank(dispute: DemoBankDispute, state: str) -> None:
    dispute.state = state
    dispute.save()


def decline_refunds(order: Order, *, declines: bool = True) -> None:
    """From now on the bank declines refunds of the order, or gives them again."""
    keys = order.payments.values_list("key")
    DemoBankCharge.objects.filter(key__in=keys).update(declines_refunds=declines)


def look_into(order: Order) -> list[str]:
    """Ask for the statements of all payments, as at a message; return what is new."""
    return [news for payment in order.payments.all() for news in statements.look_into(payment.pk)]


def charged_at_bank(order: Order) -> Decimal:
    """The sum that the bank has charged, less all that it has given or taken back."""
    keys = order.payments.values_list("key")
    charges = DemoBankCharge.objects.filter(key__in=keys, state=DemoBankCharge.State.APPROVED)
    return sum((_kept_of(charge) for charge in charges), Decimal(0))


def _kept_of(charge: DemoBankCharge) -> Decimal:
    given_back = charge.refunds.filter(state=DemoBankRefund.State.DONE)
    taken = DemoBankDispute.objects.filter(charge=charge, state__in=["OPEN", "LOST"])
    assert _sum(given_back) <= charge.amount
    return max(charge.amount - _sum(given_back) - _sum(taken), Decimal(0))


def assert_money_and_goods_agree() -> None:
    """No order keeps money without goods, or gives goods without money, but for disputes."""
    for order in Order.objects.prefetch_related("lines__reservation", "payments__refunds"):
        payments = list(order.payments.all())
        refunds = [
            refund
            for payment in payments
            for refund in payment.refunds.all()
            if refund.state != Refund.State.UNDONE
        ]
        kept = order.kept()
        taken = _sum(Dispute.objects.filter(payment__order=order, state__in=["OPEN", "LOST"]))
        if not taken:
            charged = sum(each.amount for each in payments if each.state == Payment.State.PAID)
            back = sum(refund.amount for refund in refunds)
            assert kept == max(charged - back, Decimal(0)), order
        lines = list(order.lines.all())
        statuses = {line.reservation.status for line in lines}
        sold = sum(
            line.reservation.quantity - line.reservation.returned
            for line in lines
            if line.reservation.status == Reservation.Status.SOLD
        )
        assert order.total == order.shipping_cost + sum(line.total for line in lines)
        for line in lines:
            assert (line.quantity, line.unit_price) == (
                line.reservation.quantity,
                line.reservation.unit_price,
            )
        if order.state in (Order.State.PAID, Order.State.SHIPPED):
            for_no_units = (Refund.Reason.GOODWILL, Refund.Reason.AT_PROVIDER)
            given = sum(refund.amount for refund in refunds if refund.reason in for_no_units)
            worth = sum(line.unit_price * line.left for line in lines) + order.shipping_cost
            # A dispute takes money without goods: so much less may be kept, and never more.
            assert kept <= max(worth - given, Decimal(0)), order
            assert kept >= max(worth - given - taken, Decimal(0)), order
            assert any(line.left for line in lines), order
            assert statuses == {Reservation.Status.SOLD}, order
            assert all(line.reservation.kept == line.left for line in lines), order
        else:
            assert kept == 0, order
            assert sold == sum(line.reservation.written_off for line in lines), order
        if order.state in (Order.State.CANCELLED, Order.State.REFUNDED):
            assert Reservation.Status.HELD not in statuses, order


def _sum(rows: Any) -> Decimal:
    return rows.aggregate(total=Sum("amount"))["total"] or Decimal(0)
