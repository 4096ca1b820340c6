"""Refunds: decided in the order's transaction, carried out by a job after it."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Collection
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models.functions import Now

from shop import jobs, logs, payments, shop_alerts
from shop.exceptions import NotInThisState
from shop.models import Order, Payment, Refund, RefundQuerySet
from shop.orders import copies
from shop.orders.copies import Decision
from shop.payments.base import ProviderUnavailable, RefundDeclined, RefundStatus

log = logging.getLogger(__name__)

State = Refund.State
# The e-mail to the buyer waits so long for the provider's answer, so that it can tell it.
WAIT_FOR_ANSWER = timedelta(minutes=1)


def owe(payment: Payment, amount: Decimal, decision: Decision) -> Refund:
    """Put on record that ``amount`` of the payment is to be given back; return the refund.

    The caller has locked the order, and has checked that so much of the payment is kept. A decision
    may be carried out by several refunds: only one of them may have its units.
    """
    refund = Refund.objects.create(
        payment=payment,
        key=new_key(payment),
        amount=amount,
        reason=decision.reason,
        note=decision.note,
        copy=copies.write_decision(decision),
    )
    jobs.queue("carry_out_refund", refund_id=refund.pk)
    jobs.queue("send_order_refunded", wait=WAIT_FOR_ANSWER, refund_id=refund.pk)
    return refund


def new_key(payment: Payment) -> str:
    """A key for a refund of this payment that was never used, not even before a restored backup.

    With a number instead, the first refund after that could have the key of a forgotten one: the
    provider would answer that it was made long ago.
    """
    return f"{payment.key}-{uuid.uuid4().hex}"


def owe_in_all(order: Order, amount: Decimal, decision: Decision) -> None:
    """Owe the amount, as far as so much is kept, from one of the order's payments after another."""
    for payment, kept in kept_payments(order):
        share = min(amount, kept)
        if share > 0:
            owe(payment, share, decision)
            decision = replace(decision, units={})  # the first refund has them
        amount -= share


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
    Refund.objects.filter(pk=refund_id, state=State.FAILED).update(state=State.DUE)
    # One with a reference was made at the provider: its statements say how it goes on.
    refund = Refund.objects.select_related("payment__order").get(pk=refund_id)
    logs.bind_order(refund.payment.order)
    if refund.state != State.DUE or refund.reference:
        return refund
    try:
        status = payments.refund(refund)
    except RefundDeclined as error:
        number = refund.payment.order.number
        log.error("Refund %s of order %s was declined: %s", refund.pk, number, error)
        if record_failed(refund, str(error), only_if=[State.DUE]):
            _look_for_another_way(refund.payment)
    else:
        if status is RefundStatus.DONE:
            record_done(refund)
    return Refund.objects.select_related("payment__order").get(pk=refund_id)


def _look_for_another_way(payment: Payment) -> None:
    """Find out whether staff gave the declined money back at the provider, such as before us."""
    from shop.orders import statements  # it records refunds by this module

    try:
        statements.look_into(payment.pk)
    except ProviderUnavailable as error:
        log.warning("Payment %s can't be looked up: %s", payment.pk, error)


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
        is_noted = record_done(refund, by_hand=how, only_if=[State.FAILED])
        refund.refresh_from_db()
        if not (is_noted or refund.by_hand):
            raise NotInThisState(
                f"The provider has not declined this refund: it is {refund.get_state_display()}."
            )
    return refund


# Records of the provider's answers. Each is one conditional statement: an answer to an attempt that
# is over, or to one that somebody else has recorded, changes nothing.


@transaction.atomic
def record_done(
    refund: Refund,
    reference: str = "",
    *,
    attempt: int | None = None,
    by_hand: str = "",
    only_if: Collection[Refund.State] = (State.DUE, State.FAILED),
) -> bool:
    """Record that the money was given back; False if somebody else has recorded otherwise.

    The buyer gets an e-mail, unless the last one said so. ``attempt`` is the one that was done, if
    not the present one. ``only_if`` names the states that the refund may come from.
    """
    done = _unchanged(refund, only_if).update(
        state=State.DONE,
        problem="",
        by_hand=by_hand,
        reference=reference or refund.reference,
        attempt=attempt or refund.attempt,
        carried_out_at=Now(),
    )
    if done:
        _tell(refund)
    return bool(done)


@transaction.atomic
def record_pending(refund: Refund, reference: str = "") -> bool:
    """Record that the provider has accepted a refund that it had declined; False if it hadn't.

    With ``reference`` it was made there by somebody else, and so we don't ask for it again.
    """
    accepted = _unchanged(refund, [State.FAILED]).update(state=State.DUE, reference=reference)
    if accepted:
        _tell(refund)
    return bool(accepted)


@transaction.atomic
def record_failed(
    refund: Refund,
    problem: str,
    *,
    attempt: int | None = None,
    only_if: Collection[Refund.State] = (State.DUE, State.DONE),
) -> bool:
    """Record that the buyer doesn't get the money by this attempt; False if it is over already.

    Staff get an alert, and the buyer gets an e-mail. The next attempt is another one. ``attempt``
    is the one that failed, if not the present one. ``only_if`` names the states that the refund may
    come from.
    """
    failed = _unchanged(refund, only_if).update(
        state=State.FAILED,
        problem=problem[:300],
        reference="",
        carried_out_at=None,
        attempt=(attempt or refund.attempt) + 1,
    )
    if failed:
        _tell(refund)
    return bool(failed)


@transaction.atomic
def record_undone(refund: Refund, problem: str) -> bool:
    """Record that the refund gave nothing back, and that nobody owes it any more."""
    undone = _unchanged(refund, [State.DUE, State.DONE, State.FAILED]).update(
        state=State.UNDONE, problem=problem[:300], carried_out_at=None
    )
    if undone:
        _tell(refund)
    return bool(undone)


def _unchanged(refund: Refund, states: Collection[Refund.State]) -> RefundQuerySet:
    """The refund as it was read, if it is in one of these states. Money given by hand stays so."""
    return Refund.objects.filter(pk=refund.pk, attempt=refund.attempt, by_hand="", state__in=states)


def _tell(refund: Refund) -> None:
    """Queue the e-mail to the buyer, and bring the alerts in line."""
    now = Refund.objects.select_related("payment__order").get(pk=refund.pk)
    jobs.queue("send_order_refunded", refund_id=now.pk)
    shop_alerts.update_refund_alerts(now)


def due_refunds() -> list[int]:
    """The ids of refunds that are still to be carried out, the oldest first."""
    waiting = Refund.objects.filter(state=State.DUE, reference="").order_by("decided_at")
    return list(waiting.values_list("pk", flat=True))
