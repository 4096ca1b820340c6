"""Money that goes back: decided in the order's transaction, carried out by a job after it."""

from __future__ import annotations

import logging
from decimal import Decimal

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models.functions import Now

from shop import jobs, payments, shop_alerts
from shop.exceptions import NotInThisState
from shop.models import Order, Payment, Refund
from shop.payments.base import RefundRefused

log = logging.getLogger(__name__)


def owe(payment: Payment, amount: Decimal, reason: Refund.Reason, note: str = "") -> Refund:
    """Put on record that ``amount`` of the payment is to be given back; return the refund.

    The caller has locked the order, and has seen to it that so much is kept.
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
    """The order's payments of which something is kept, each with how much."""
    paid = Payment.objects.filter(order=order, state=Payment.State.PAID).order_by("pk")
    return [(payment, payment.kept()) for payment in paid if payment.kept() > 0]


def carry_out(refund_id: int) -> Refund:
    """Have the provider give the money back, and return the refund; once, however often called.

    A provider that refuses is on record (FAILED, with its reason), and may be asked again.

    Raises Refund.DoesNotExist, ProviderUnavailable: then it is still due.
    """
    refund = Refund.objects.select_related("payment__order").get(pk=refund_id)
    if refund.state == Refund.State.DONE:
        return refund
    try:
        payments.refund(refund)
    except RefundRefused as error:
        log.error("Refund %s was refused: %s", refund.key, error)
        return _note(refund_id, Refund.State.FAILED, str(error)[:300])
    return _note(refund_id, Refund.State.DONE)


def note_by_hand(refund_id: int, how: str) -> Refund:
    """Put on record that staff gave the money back by another way, and return the refund.

    For what the provider refuses for good; ``how`` is for the record, such as "bank transfer of
    1 May". Again, it changes nothing.

    Raises NotInThisState unless the provider has refused it: it would give the money back, too;
    ValidationError, Refund.DoesNotExist.
    """
    if not how.strip():
        raise ValidationError("Say how the money was given back.")
    Refund(by_hand=how).clean_fields(exclude={"payment", "key", "amount", "reason"})
    by_hand = Refund.objects.filter(pk=refund_id, state=Refund.State.FAILED)
    with transaction.atomic():
        # One conditional statement: the provider may be asked once more at this moment.
        noted = by_hand.update(by_hand=how)
        if noted:
            return _note(refund_id, Refund.State.DONE)
    refund = Refund.objects.select_related("payment__order").get(pk=refund_id)
    if not refund.by_hand:
        raise NotInThisState(
            f"The provider has not refused it: it is {refund.get_state_display()}."
        )
    return refund


def _note(refund_id: int, state: Refund.State, problem: str = "") -> Refund:
    """Put on record how it went; another attempt may have succeeded meanwhile, and stays."""
    with transaction.atomic():
        refund = Refund.objects.select_for_update(no_key=True).get(pk=refund_id)
        if refund.state == Refund.State.DONE:
            return refund
        if Refund.State.FAILED in (refund.state, state):  # else the buyer knows already
            jobs.queue("send_order_refunded", refund_id=refund_id)
        carried_out_at = Now() if state == Refund.State.DONE else None
        Refund.objects.filter(pk=refund_id).update(
            state=state, problem=problem, carried_out_at=carried_out_at
        )
        refund = Refund.objects.select_related("payment__order").get(pk=refund_id)
        shop_alerts.update_refund_alerts(refund)
    return refund


def due_refunds() -> list[int]:
    """Refunds that are still to be carried out, the oldest first."""
    waiting = Refund.objects.filter(state=Refund.State.DUE).order_by("decided_at")
    return list(waiting.values_list("pk", flat=True))
