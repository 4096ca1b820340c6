"""Money that goes at the provider: refunds made there, refunds that fail there, and disputes.

The provider's statement of a payment is the truth about its money. ``look_into`` asks for it and
brings our records in line. It frees no units and sends no parcel back: a person decides that, whom
an alert calls.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models import F, Q, QuerySet, Sum
from django.db.models.functions import Now

from shop import jobs, logs, payments, shop_alerts
from shop.clock import read_clock
from shop.models import Dispute, Order, Payment, Refund, RefundQuerySet
from shop.money import format_amount
from shop.orders import refunds
from shop.orders.copies import Decision
from shop.orders.lifecycle import lock_order, settle
from shop.payments.base import (
    DisputeRecord,
    DisputeStatus,
    ListedPayment,
    Outcome,
    RefundRecord,
    RefundStatus,
    Statement,
)

log = logging.getLogger(__name__)

LOOK_BACK = timedelta(days=35)  # a card's bank may send a refund back for up to 30 days
LONGEST_PAGE = 500  # characters
CAME_BACK = "The money came back to the provider."
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
    """Record what is new with payments, however old: a message may have been lost.

    The providers list the payments that were started, refunded or disputed in the last weeks. A
    dispute may take months, so we ask about each until it is decided. A provider that can't be
    reached is asked again the next time. A payment that fails here keeps none of the others.
    """
    began_at = read_clock()
    _look_into_lists()
    _look_into_undecided(began_at)


def _look_into_lists() -> None:
    for slug in payments.known_slugs():
        asked_at = read_clock()
        try:
            for listed in payments.list_since(slug, asked_at - LOOK_BACK):
                _look_into_listed(slug, listed, asked_at)
        except payments.ProviderUnavailable as error:
            log.warning("The payments at %s can't be looked up: %s", slug, error)
        except Exception:
            log.exception("The payments at %s can't be looked up.", slug)


def _look_into_listed(slug: str, listed: ListedPayment, asked_at: datetime) -> None:
    ours = Payment.objects.select_related("order")
    payment = ours.filter(provider=slug, key=listed.key).first()
    if payment is None:  # manage.py reconcile finds payments that we don't know
        return
    logs.bind_order(payment.order)
    if listed.problem:
        log.error("Payment %s can't be looked up: %s", payment.pk, listed.problem)
        return
    try:
        if payment.state != Payment.State.PAID and listed.statement.outcome is Outcome.PAID:
            settle(payment.order_id)  # nobody asks about declined payments by the minute
        record(payment, listed.statement, asked_at)
    except Exception:
        log.exception("The news of payment %s can't be recorded.", payment.pk)


def _look_into_undecided(since: datetime) -> None:
    """Look into disputed payments that were not looked into ``since``."""
    not_seen = Q(payment__statement_at=None) | Q(payment__statement_at__lt=since)
    disputes = Dispute.objects.undecided().filter(not_seen)
    for payment_id in disputes.order_by().values_list("payment", flat=True).distinct():
        try:
            look_into(payment_id)
        except payments.ProviderUnavailable as error:
            log.warning("Payment %s can't be looked up: %s", payment_id, error)
        except Exception:
            log.exception("The news of payment %s can't be recorded.", payment_id)


@transaction.atomic
def record(payment: Payment, statement: Statement, asked_at: datetime) -> list[str]:
    """Record what is new in a statement of a paid payment; return that, a sentence for each.

    ``asked_at`` is the time before we asked (``read_clock``). If a statement that was asked for
    later is on record already, it says all that this one does, and maybe more: nothing is done.
    """
    order = lock_order(payment.order_id)
    news = record_money(payment, statement, asked_at)
    if news:
        _owe_what_is_over(order)
    return news


def record_money(payment: Payment, statement: Statement, asked_at: datetime) -> list[str]:
    """Do the same, and owe the buyer nothing more. The caller has locked the order."""
    if not _is_latest(payment, asked_at):
        return []
    _record_facts(payment, statement)
    # Staff may note a refund as given by hand at this moment: they wait, or we see it.
    ours = {each.key: each for each in payment.refunds.select_for_update().order_by("pk")}
    return [
        *_record_our_refunds(ours, statement),
        *_record_other_refunds(payment, ours, statement),
        *_record_disputes(payment, statement),
        *_cover_declined(payment),
    ]


def _is_latest(payment: Payment, asked_at: datetime) -> bool:
    earlier = Q(statement_at=None) | Q(statement_at__lt=asked_at)
    latest = Payment.objects.filter(earlier, pk=payment.pk, state=Payment.State.PAID)
    return latest.update(statement_at=asked_at) == 1


def _record_facts(payment: Payment, statement: Statement) -> None:
    """Keep the fee and the page in the dashboard, as far as the provider tells them."""
    found = Payment.objects.filter(pk=payment.pk)
    if statement.fee is not None:
        found.update(fee=statement.fee, fee_currency=statement.fee_currency)
    if 0 < len(statement.page) <= LONGEST_PAGE:
        found.update(provider_page=statement.page)


# Refunds that we have asked for


def _record_our_refunds(ours: dict[str, Refund], statement: Statement) -> list[str]:
    """Bring our refunds in line, whatever we were told when we asked for them."""
    records: dict[str, list[RefundRecord]] = {}
    for record in statement.refunds:
        records.setdefault(record.key, []).append(record)
    asked_for = [refund for refund in ours.values() if not refund.by_hand]
    found = (_record_our_refund(each, records.get(each.key, [])) for each in asked_for)
    return [sentence for sentence in found if sentence]


def _record_our_refund(refund: Refund, records: list[RefundRecord]) -> str:
    """Record the last news of a refund, which may have failed at earlier attempts."""
    amount = format_amount(refund.amount, refund.payment.currency)
    for record in records:
        if record.status is RefundStatus.DONE:
            if refund.state == State.DONE:
                return ""
            refunds.record_done(refund, record.reference, attempt=record.attempt)
            return f"The provider has given back {amount}."
    if any(record.status is RefundStatus.PENDING for record in records):
        is_news = refunds.record_pending(refund)
        return f"The provider has accepted the refund of {amount}." if is_news else ""
    # A later attempt may have gone well since we asked: only the present one can have failed.
    failed = [record for record in records if record.attempt >= refund.attempt]
    if not failed or refund.state == State.FAILED:
        return ""
    last = max(failed, key=lambda record: record.attempt)
    refunds.record_failed(refund, last.problem or CAME_BACK, attempt=last.attempt)
    return f"The refund of {amount} has failed at the provider."


# Refunds made at the provider


def _record_other_refunds(
    payment: Payment, ours: dict[str, Refund], statement: Statement
) -> list[str]:
    news = []
    for record in statement.refunds:
        refund = ours.get(record.key)
        if record.key and refund is None:
            _report_unknown(payment, record)
        elif refund is None or refund.by_hand:
            # The provider gave the money back once more, if staff had given it by hand.
            news += _record_other_refund(payment, record)
    return news


def _report_unknown(payment: Payment, record: RefundRecord) -> None:
    """Call a person for a refund of ours that we don't know: our records are older than it."""
    if record.status is not RefundStatus.FAILED:
        shop_alerts.raise_alert(shop_alerts.unknown_refund(payment, record.amount))


def _record_other_refund(payment: Payment, record: RefundRecord) -> list[str]:
    amount = format_amount(record.amount, payment.currency)
    known = payment.refunds.filter(reference=record.reference)
    if record.status is RefundStatus.FAILED:
        if not _undo(known, record.problem or CAME_BACK):
            return []
        return [f"The refund of {amount} that was made at the provider has failed there."]
    if not known.exists():
        _create_made_at_provider(payment, record)
        return [f"A refund of {amount} was made at the provider."]
    if record.status is RefundStatus.DONE:
        for refund in known.filter(state=State.DUE):
            refunds.record_done(refund)
    return []


def _undo(known: RefundQuerySet, problem: str) -> int:
    """The money of these refunds is ours again; return how many there were.

    One that we owed before it was made at the provider is owed as before.
    """
    undone = 0
    for refund in known.exclude(state=State.UNDONE):
        if refund.reason == Refund.Reason.AT_PROVIDER:
            undone += refunds.record_undone(refund, problem)
        else:
            undone += refunds.record_failed(refund, problem)
    return undone


def _create_made_at_provider(payment: Payment, record: RefundRecord) -> None:
    is_done = record.status is RefundStatus.DONE
    refund = Refund.objects.create(
        payment=payment,
        key=refunds.new_key(payment),
        amount=record.amount,
        reason=Refund.Reason.AT_PROVIDER,
        state=State.DONE if is_done else State.DUE,
        reference=record.reference,
        decided_at=record.made_at,
        carried_out_at=record.made_at if is_done else None,
    )
    shop_alerts.raise_alert(shop_alerts.provider_refund(refund, is_second=bool(record.key)))
    if is_done:
        jobs.queue("send_order_refunded", refund_id=refund.pk)


# Refunds that the provider had declined, and whose money the buyer has all the same


def _cover_declined(payment: Payment) -> list[str]:
    """Settle declined refunds whose money went at the provider, or was taken by the buyer's bank.

    Staff may have given it back there, before or after it was declined to us.
    """
    news = []
    while pair := _covered_refund(payment):
        owed, made = pair
        news.append(_cover(owed, made))
    for owed in _declined_refunds(payment):
        taken = _total(payment.disputes.filter(state=Dispute.State.LOST))
        if over := _beyond_charge(payment, taken):
            news.append(_write_off(owed, min(over, owed.amount)))
    return news


def _covered_refund(payment: Payment) -> tuple[Refund, Refund] | None:
    """A declined refund, and the one made at the provider that gave its money back, if any.

    It is of the same amount and was made later; or else more would have gone back than was charged.
    """
    states = [State.DUE, State.DONE]
    found = payment.refunds.filter(reason=Refund.Reason.AT_PROVIDER, state__in=states)
    made_there = list(found.order_by("pk"))
    if not made_there:
        return None
    declined = _declined_refunds(payment)
    for owed in declined:
        for made in made_there:
            if made.amount == owed.amount and made.decided_at >= owed.decided_at:
                return owed, made
    if declined and _beyond_charge(payment):
        return declined[0], made_there[0]
    return None


def _declined_refunds(payment: Payment) -> list[Refund]:
    return list(payment.refunds.filter(state=State.FAILED).order_by("pk"))


def _beyond_charge(payment: Payment, taken: Decimal = Decimal(0)) -> Decimal:
    """The sum given back, owed and ``taken`` beyond the payment: so much can't be owed."""
    return max(_total(payment.refunds.counted()) + taken - payment.amount, Decimal(0))


def _total(rows: QuerySet[Any]) -> Decimal:
    total: Decimal | None = rows.aggregate(total=Sum("amount"))["total"]
    return total or Decimal(0)


def _cover(owed: Refund, made: Refund) -> str:
    """Let a refund made at the provider count as the declined one, or as a part of it."""
    amount = min(owed.amount, made.amount)
    shop_alerts.raise_alert(shop_alerts.covered_refund(owed, made, amount))
    if amount < owed.amount:
        _lower(owed, amount)
        Refund.objects.filter(pk=made.pk).update(reason=owed.reason, note=owed.note)
    else:
        if made.mailed_state == State.DONE and not owed.mailed_state:  # the buyer knows of it
            Refund.objects.filter(pk=owed.pk).update(mailed_state=State.DONE)
        if made.state == State.DONE:
            refunds.record_done(owed, made.reference)
        else:
            refunds.record_pending(owed, made.reference)
        if amount < made.amount:
            Refund.objects.filter(pk=made.pk).update(amount=F("amount") - amount)
        else:
            made.delete()
    words = format_amount(amount, owed.payment.currency)
    return f"{words} of that were owed: the provider had declined to give them back."


def _lower(owed: Refund, amount: Decimal) -> None:
    """So much of the refund isn't owed any more: its alert speaks of the rest."""
    Refund.objects.filter(pk=owed.pk).update(amount=F("amount") - amount)
    shop_alerts.update_refund_alerts(
        Refund.objects.select_related("payment__order").get(pk=owed.pk)
    )


def _write_off(owed: Refund, amount: Decimal) -> str:
    """The buyer's bank has given the buyer so much of a declined refund: we don't owe it too."""
    if amount < owed.amount:
        _lower(owed, amount)
    else:
        refunds.record_undone(owed, "The buyer's bank has taken the money back from us.")
    words = format_amount(amount, owed.payment.currency)
    return f"{words} are not owed any more: the buyer has them by the dispute."


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
    over = order.kept() - order.worth_to_keep()
    if over > 0:
        refunds.owe_in_all(order, over, Decision(_reason(order)))


def _reason(order: Order) -> Refund.Reason:
    is_cancelled = order.state == Order.State.CANCELLED
    return Refund.Reason.CANCELLED if is_cancelled else Refund.Reason.RETURNED
