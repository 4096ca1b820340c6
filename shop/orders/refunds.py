"""Refunds: decided in the order's transaction, carried out by a job after it."""

from __future__ import annotations

import logging
from collections.abc import Collection
from decimal import Decimal

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils.crypto import get_random_string

from shop import jobs, payments, shop_alerts
from shop.exceptions import NotInThisState
from shop.models import Order, Payment, Refund
from shop.orders import copies
from shop.orders.copies import Decision
from shop.payments.base import RefundDeclined, RefundStatus

log = logging.getLogger(__name__)


def owe(payment: Payment, amount: Decimal, decision: Decision) -> Refund:
    """Put on record that ``amount`` of the payment is to be given back; return the refund.

    The caller has locked the order, and has checked that so much of the payment is kept. A decision
    may be carried out by several refunds: only one of them may have its units.
    """
    refund = Refund.objects.create(
        payment=payment,
        # A random key: after the restore of a backup, a counted one may be the provider's already.
        key=f"{payment.key}-{get_random_string(8)}",
        amount=amount,
        reason=decision.reason,
        note=decision.note,
        copy=copies.write_decision(decision),
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

    If the provider declines it, the refund is FAILED, with the reason, and may be tried again. As
    long as the provider has only accepted it, it is still due.

    Raises ProviderUnavailable: then the refund is still due. Raises Refund.DoesNotExist.
    """
    # From here on nobody can record that it was given back by hand: that is for declined refunds.
    Refund.objects.filter(pk=refund_id, state=Refund.State.FAILED).update(state=Refund.State.DUE)
    refund = Refund.objects.select_related("payment__order").get(pk=refund_id)
    if refund.state != Refund.State.DUE:
        return refund
    try:
        status = payments.refund(refund)
    except RefundDeclined as error:
        log.error("Refund %s was declined: %s", refund.key, error)
        record_failed(refund, str(error))
    else:
        if status is RefundStatus.DONE:
            record_done(refund)
    return Refund.objects.select_related("payment__order").get(pk=refund_id)


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
    refund = Refund.objects.select_related("payment__order").get(pk=refund_id)
    if not refund.by_hand:
        is_noted = record_done(refund, by_hand=how, only_if=[Refund.State.FAILED])
        refund.refresh_from_db()
        if not (is_noted or refund.by_hand):
            raise NotInThisState(
                f"The provider has not declined this refund: it is {refund.get_state_display()}."
            )
    return refund


@transaction.atomic
def record_done(
    refund: Refund,
    reference: str = "",
    *,
    by_hand: str = "",
    only_if: Collection[Refund.State] = (Refund.State.DUE, Refund.State.FAILED),
) -> bool:
    """Record that the money was given back; False if somebody else has recorded otherwise.

    The buyer gets an e-mail, unless the last one said so. ``only_if`` names the states that it may
    come from.
    """
    # One conditional statement: an attempt that the provider has undone meanwhile is over.
    attempt = Refund.objects.filter(pk=refund.pk, attempt=refund.attempt, state__in=only_if)
    done = attempt.update(
        state=Refund.State.DONE,
        problem="",
        by_hand=by_hand,
        reference=reference or refund.reference,
        carried_out_at=Now(),
    )
    if done:
        _tell(refund)
    return bool(done)


@transaction.atomic
def record_failed(refund: Refund, problem: str) -> bool:
    """Record that the buyer doesn't get the money by this attempt; False if it is over already.

    Staff get an alert, and the buyer gets an e-mail. The next attempt is another one.
    """
    attempt = Refund.objects.filter(pk=refund.pk, attempt=refund.attempt)
    failed = attempt.update(
        state=Refund.State.FAILED,
        problem=problem[:300],
        carried_out_at=None,
        attempt=F("attempt") + 1,
    )
    if failed:
        _tell(refund)
    return bool(failed)


def _tell(refund: Refund) -> None:
    """Queue the e-mail to the buyer, and bring the alerts in line."""
    now = Refund.objects.select_related("payment__order").get(pk=refund.pk)
    jobs.queue("send_order_refunded", refund_id=now.pk)
    shop_alerts.update_refund_alerts(now)


def due_refunds() -> list[int]:
    """The ids of refunds that are still to be carried out, the oldest first."""
    waiting = Refund.objects.filter(state=Refund.State.DUE).order_by("decided_at")
    return list(waiting.values_list("pk", flat=True))
