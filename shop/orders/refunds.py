"""Refunds: decided in the order's transaction, carried out by a job after it."""

from __future__ import annotations

import logging
from decimal import Decimal

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models.functions import Now

from shop import jobs, payments, shop_alerts
from shop.exceptions import NotInThisState
from shop.models import Order, Payment, Refund
from shop.payments.base import RefundDeclined

log = logging.getLogger(__name__)


def owe(payment: Payment, amount: Decimal, reason: Refund.Reason, note: str = "") -> Refund:
    """Put on record that ``amount`` of the payment is to be given back; return the refund.

    The caller has locked the order, and has checked that so much of the payment is kept.
    """
    number = payment.refunds.count() + 1
    refund = Refund.objects.create(
        payment=payment,
        key=f"{payment.key}-{number}",
        amount=amount,
        reason=reason,
        note=note,
    )
    jobs.queue("carry_out_refund", refund_id=refund.pk)
    jobs.queue("send_order_refunded", refund_id=refund.pk)
    return refund


def kept_payments(order: Order) -> list[tuple[Payment, Decimal]]:
    """The order's payments of which we keep something, each with the amount."""
    paid = Payment.objects.filter(order=order, state=Payment.State.PAID).order_by("pk")
    return [(payment, payment.kept()) for payment in paid if payment.kept() > 0]


def carry_out(refund_id: int) -> Refund:
    """Have the provider give the money back once, however often this is called; return the refund.

    If the provider declines it, the refund is FAILED, with the reason, and may be tried again.

    Raises ProviderUnavailable: then the refund is still due. Raises Refund.DoesNotExist.
    """
    refund = Refund.objects.select_related("payment__order").get(pk=refund_id)
    if refund.state == Refund.State.DONE:
        return refund
    try:
        payments.refund(refund)
    except RefundDeclined as error:
        log.error("Refund %s was declined: %s", refund.key, error)
        return _record(refund_id, Refund.State.FAILED, str(error)[:300])
    return _record(refund_id, Refund.State.DONE)


def record_by_hand(refund_id: int, how: str) -> Refund:
    """Put on record that staff gave the money back another way, and return the refund.

    This is for refunds that the provider declines for good. ``how`` says it in words, such as "bank
    transfer of 1 May". A repetition changes nothing.

    Raises NotInThisState unless the provider has declined the refund: else it could still give the
    money back, too. Raises ValidationError, Refund.DoesNotExist.
    """
    if not how.strip():
        raise ValidationError("Say how the money was given back.")
    Refund(by_hand=how).clean_fields(exclude={"payment", "key", "amount", "reason"})
    by_hand = Refund.objects.filter(pk=refund_id, state=Refund.State.FAILED)
    with transaction.atomic():
        # One conditional statement: a job may ask the provider once more at this moment.
        noted = by_hand.update(by_hand=how)
        if noted:
            return _record(refund_id, Refund.State.DONE)
    refund = Refund.objects.select_related("payment__order").get(pk=refund_id)
    if not refund.by_hand:
        raise NotInThisState(
            f"The provider has not declined this refund: it is {refund.get_state_display()}."
        )
    return refund


def _record(refund_id: int, state: Refund.State, problem: str = "") -> Refund:
    """Record the outcome of an attempt, unless another attempt has succeeded meanwhile."""
    with transaction.atomic():
        refund = Refund.objects.select_for_update(no_key=True).get(pk=refund_id)
        if refund.state == Refund.State.DONE:
            return refund
        if Refund.State.FAILED in (refund.state, state):  # else the last e-mail still holds
            jobs.queue("send_order_refunded", refund_id=refund_id)
        carried_out_at = Now() if state == Refund.State.DONE else None
        Refund.objects.filter(pk=refund_id).update(
            state=state, problem=problem, carried_out_at=carried_out_at
        )
        refund = Refund.objects.select_related("payment__order").get(pk=refund_id)
        shop_alerts.update_refund_alerts(refund)
    return refund


def due_refunds() -> list[int]:
    """The ids of refunds that are still to be carried out, the oldest first."""
    waiting = Refund.objects.filter(state=Refund.State.DUE).order_by("decided_at")
    return list(waiting.values_list("pk", flat=True))
