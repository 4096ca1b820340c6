"""Money that goes at the provider: refunds made there, refunds that fail there, and disputes.

The provider's statement of a payment is the truth about its money. ``look_into`` asks for it and
brings our records in line. It frees no units and sends no parcel back: a person decides that, whom
an alert calls.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from decimal import Decimal

from django.db import connection, transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from shop import payments, shop_alerts
from shop.models import Dispute, Order, Payment, Refund
from shop.money import format_amount
from shop.orders import refunds
from shop.orders.copies import Decision
from shop.orders.lifecycle import lock_order
from shop.payments.base import (
    DisputeRecord,
    DisputeStatus,
    RefundRecord,
    RefundStatus,
    Statement,
)

log = logging.getLogger(__name__)

LOOK_BACK = timedelta(days=4)  # providers send their messages again for up to three days
State = Refund.State
STATES = {
    DisputeStatus.INQUIRY: Dispute.State.INQUIRY,
    DisputeStatus.OPEN: Dispute.State.OPEN,
    DisputeStatus.WON: Dispute.State.WON,
    DisputeStatus.LOST: Dispute.State.LOST,
}
# A dispute never goes back: the states from which it may come to another one.
EARLIER = {
    Dispute.State.INQUIRY: [],
    Dispute.State.OPEN: [Dispute.State.INQUIRY],
    Dispute.State.WON: [Dispute.State.INQUIRY, Dispute.State.OPEN],
    Dispute.State.LOST: [Dispute.State.INQUIRY, Dispute.State.OPEN],
}


def look_into(payment_id: int) -> list[str]:
    """Ask for the payment's statement and record what is new; return that, a sentence for each.

    Anybody may call this at any time, any number of times and at once. The payment must be known
    to be paid (``settle`` finds that out); else nothing is asked.

    Raises ProviderUnavailable, Payment.DoesNotExist.
    """
    payment = Payment.objects.select_related("order").get(pk=payment_id)
    if payment.state != Payment.State.PAID:
        return []
    asked_at = read_clock()
    return record(payment, payments.statement(payment), asked_at)


def look_into_recent() -> None:
    """Record what is new with the payments of the last days: a message may have been lost.

    A provider that can't be reached is asked again the next time.
    """
    for slug in payments.known_slugs():
        asked_at = read_clock()
        try:
            for listed in payments.list_since(slug, asked_at - LOOK_BACK):
                paid = Payment.objects.filter(provider=slug, key=listed.key)
                for payment in paid.filter(state=Payment.State.PAID):
                    record(payment, listed.statement, asked_at)
        except payments.ProviderUnavailable as error:
            log.warning("The payments at %s can't be looked up: %s", slug, error)


def read_clock() -> datetime:
    """The database's time, by which statements are put in order."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        now: datetime = cursor.fetchone()[0]
        return now


@transaction.atomic
def record(payment: Payment, statement: Statement, asked_at: datetime) -> list[str]:
    """Record what is new in a statement of a paid payment; return that, a sentence for each.

    ``asked_at`` is the time before we asked (``read_clock``). If a statement that was asked for
    later is on record already, it says all that this one does, and maybe more: nothing is done.
    """
    order = lock_order(payment.order_id)
    if not _is_latest(payment, asked_at):
        return []
    _record_facts(payment, statement)
    news = [
        *_record_our_refunds(payment, statement),
        *_record_other_refunds(payment, statement),
        *_record_disputes(payment, statement),
    ]
    if news:
        _owe_what_is_over(order)
    return news


def _is_latest(payment: Payment, asked_at: datetime) -> bool:
    earlier = Q(statement_at=None) | Q(statement_at__lt=asked_at)
    latest = Payment.objects.filter(earlier, pk=payment.pk, state=Payment.State.PAID)
    return latest.update(statement_at=asked_at) == 1


def _record_facts(payment: Payment, statement: Statement) -> None:
    """Keep the fee and the page in the dashboard, as far as the provider tells them."""
    found = Payment.objects.filter(pk=payment.pk)
    if statement.fee is not None:
        found.update(fee=statement.fee, fee_currency=statement.fee_currency)
    if statement.page:
        found.update(provider_page=statement.page)


# Refunds that we have asked for


def _record_our_refunds(payment: Payment, statement: Statement) -> list[str]:
    """Bring our refunds in line, whatever we were told when we asked for them."""
    news = []
    for refund in payment.refunds.filter(by_hand=""):
        records = [record for record in statement.refunds if record.key == refund.key]
        if sentence := _record_our_refund(refund, records):
            news.append(sentence)
    return news


def _record_our_refund(refund: Refund, records: list[RefundRecord]) -> str:
    amount = format_amount(refund.amount, refund.payment.currency)
    done = next((each for each in records if each.status is RefundStatus.DONE), None)
    if done is not None:
        if refund.state == State.DONE:
            return ""
        refunds.record_done(refund, done.reference)
        return f"The provider has given back {amount}."
    failed = next((each for each in reversed(records) if each.status is RefundStatus.FAILED), None)
    is_pending = any(each.status is RefundStatus.PENDING for each in records)
    if failed is None or is_pending or refund.state == State.FAILED:
        return ""
    if refund.state == State.DUE and failed.attempt != refund.attempt:
        return ""  # an attempt after it is under way
    refunds.record_failed(refund, failed.problem or "The money came back to the provider.")
    return f"The refund of {amount} has failed at the provider."


# Refunds made at the provider


def _record_other_refunds(payment: Payment, statement: Statement) -> list[str]:
    news = []
    for record in statement.refunds:
        if record.key:
            news += _report_unknown(payment, record)
        elif record.status is RefundStatus.FAILED:
            news += _undo(payment, record)
        elif not payment.refunds.filter(reference=record.reference).exists():
            news.append(_record_other_refund(payment, record))
    return news


def _report_unknown(payment: Payment, record: RefundRecord) -> list[str]:
    """Call a person for a refund of ours that we don't know: our records are older than it."""
    if not payment.refunds.filter(key=record.key).exists() and (
        record.status is not RefundStatus.FAILED
    ):
        shop_alerts.raise_alert(shop_alerts.unknown_refund(payment, record.amount))
    return []


def _undo(payment: Payment, record: RefundRecord) -> list[str]:
    """A refund made at the provider has failed there: its money is ours again."""
    ours_again = payment.refunds.filter(reference=record.reference).exclude(state=State.UNDONE)
    # A refund of ours that it had covered is owed as before.
    owed = ours_again.exclude(reason=Refund.Reason.AT_PROVIDER)
    for refund in owed.filter(state=State.DONE):
        refunds.record_failed(refund, record.problem or "The money came back to the provider.")
    undone = ours_again.filter(reason=Refund.Reason.AT_PROVIDER).update(state=State.UNDONE)
    if not undone:
        return []
    amount = format_amount(record.amount, payment.currency)
    return [f"The refund of {amount} that was made at the provider has failed there."]


def _record_other_refund(payment: Payment, record: RefundRecord) -> str:
    """Record a refund that staff made at the provider; it may be one that we still owed."""
    left = record.amount
    for owed in payment.refunds.filter(state=State.FAILED, by_hand="").select_for_update():
        if left == owed.amount or _exceeds(payment, left):
            left -= _cover(owed, left, record)
        if not left:
            break
    if left:
        refund = _create_done(payment, record, left, Refund.Reason.AT_PROVIDER)
        shop_alerts.raise_alert(shop_alerts.provider_refund(refund))
    amount = format_amount(record.amount, payment.currency)
    return f"{amount} were given back at the provider."


def _exceeds(payment: Payment, amount: Decimal) -> bool:
    """Whether so much more would be more than was charged, so that it must be what we owe."""
    back = sum((refund.amount for refund in payment.refunds.counted()), Decimal(0))
    return back + amount > payment.amount


def _cover(owed: Refund, amount: Decimal, record: RefundRecord) -> Decimal:
    """Settle a refund that the provider had declined, or a part of it; return how much of it."""
    if amount >= owed.amount:
        refunds.record_done(owed, record.reference)
        return owed.amount
    Refund.objects.filter(pk=owed.pk).update(amount=F("amount") - amount)
    _create_done(owed.payment, record, amount, Refund.Reason(owed.reason))
    return amount


def _create_done(
    payment: Payment, record: RefundRecord, amount: Decimal, reason: Refund.Reason
) -> Refund:
    return Refund.objects.create(
        payment=payment,
        key=f"{payment.key}-at-provider-{payment.refunds.count() + 1}",
        amount=amount,
        reason=reason,
        state=State.DONE,
        reference=record.reference,
        decided_at=record.made_at,
        carried_out_at=record.made_at,
    )


# Disputes


def _record_disputes(payment: Payment, statement: Statement) -> list[str]:
    news = []
    for record in statement.disputes:
        dispute, is_new = Dispute.objects.get_or_create(
            payment=payment,
            reference=record.reference,
            defaults={
                "amount": record.amount,
                "state": STATES[record.status],
                "reason": record.reason[:200],
                "opened_at": record.opened_at,
                "decided_at": Now() if _is_decided(record) else None,
            },
        )
        if is_new or _advance(dispute, record):
            dispute.refresh_from_db()
            shop_alerts.update_dispute_alerts(dispute)
            news.append(shop_alerts.dispute_text(dispute))
    return news


def _advance(dispute: Dispute, record: DisputeRecord) -> bool:
    """Bring the dispute forward; False if it has come so far, or further."""
    state = STATES[record.status]
    behind = Dispute.objects.filter(pk=dispute.pk, state__in=EARLIER[state])
    decided_at = Now() if _is_decided(record) else None
    return behind.update(state=state, amount=record.amount, decided_at=decided_at) == 1


def _is_decided(record: DisputeRecord) -> bool:
    return record.status in (DisputeStatus.WON, DisputeStatus.LOST)


# Money that comes back to us


def _owe_what_is_over(order: Order) -> None:
    """Owe the buyer what we keep beyond the worth of what the buyer has.

    While a dispute had the money, units may have come back, or the order may have been cancelled:
    then nothing was left to give back. When the dispute is won, it is.
    """
    over = order.kept() - _worth(order)
    for payment, kept in refunds.kept_payments(order):
        share = min(over, kept)
        if share > 0:
            refunds.owe(payment, share, Decision(_reason(order)))
        over -= share


def _worth(order: Order) -> Decimal:
    """The price of what the buyer has or will get, less what was given back for no units."""
    if order.state not in (Order.State.PAID, Order.State.SHIPPED):
        return Decimal(0)
    left = [line for line in order.lines.all() if line.left]
    worth = sum((line.unit_price * line.left for line in left), Decimal(0))
    if left:
        worth += order.shipping_cost
    for_no_units = [Refund.Reason.GOODWILL, Refund.Reason.AT_PROVIDER]
    given = Refund.objects.counted().filter(payment__order=order, reason__in=for_no_units)
    return max(worth - sum((refund.amount for refund in given), Decimal(0)), Decimal(0))


def _reason(order: Order) -> Refund.Reason:
    is_cancelled = order.state == Order.State.CANCELLED
    return Refund.Reason.CANCELLED if is_cancelled else Refund.Reason.RETURNED
