"""After the restore of a backup: one order, brought in line with the provider's records of it.

``reconcile`` finds the orders. Everything here is done in one transaction with the order locked: a
process that is killed leaves the order as it was.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import pglock
from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from inventory.models import Product, Reservation
from inventory.reservations import let_lapse, record_lapsed
from inventory.words import counted
from shop import jobs, shop_alerts
from shop.exceptions import InvalidRefund
from shop.models import Order, OrderLine, Payment, Refund
from shop.money import format_amount
from shop.orders import copies, customer_limits, lifecycle, refunds, statements
from shop.orders.copies import Decision, OrderCopy, UnusableCopy
from shop.payments.base import ListedPayment, Outcome, RefundRecord, RefundStatus

log = logging.getLogger(__name__)

State = Order.State
Reason = Refund.Reason
LostRefund = tuple[Refund, Decision | None]  # with its decision, if it can be read
# A payment that was given back for one of these reasons never got the goods.
WITHOUT_GOODS = {*lifecycle.TOO_LATE.values(), Reason.PAID_TWICE, Reason.PAID_AFTER_END}
REFUND_STATES = {
    RefundStatus.PENDING: Refund.State.DUE,
    RefundStatus.DONE: Refund.State.DONE,
    # ``statements`` records the failure, and calls staff.
    RefundStatus.FAILED: Refund.State.DUE,
}


@dataclass(frozen=True)
class Finding:
    """Something that a person must look at."""

    subject: str
    """Tells it from other findings."""
    reference: str
    """The provider's name for the payment."""
    amount: str
    text: str
    page: str = ""
    """The payment in the provider's dashboard, if the provider tells."""

    def __str__(self) -> str:
        return " ".join(filter(None, [self.reference, f"({self.amount}):", self.text, self.page]))


@dataclass(frozen=True)
class Found:
    """A payment as a provider lists it."""

    provider: str
    listed: ListedPayment

    @property
    def amount(self) -> str:
        return format_amount(self.listed.amount, self.listed.currency)

    @property
    def subject(self) -> str:
        return f"{self.provider} {self.listed.key}"

    def read_copy(self) -> OrderCopy:
        """The order that was paid. Raises UnusableCopy."""
        copy = copies.read_order(self.listed.copy)
        ordered = (copy.order.total, copy.order.currency)
        if ordered != (self.listed.amount, self.listed.currency):
            raise UnusableCopy("The copy is of an order with another total.")
        return copy

    def as_finding(self, text: str, subject: str = "") -> Finding:
        listed = self.listed
        page = listed.statement.page
        return Finding(subject or self.subject, listed.reference, self.amount, text, page)


@dataclass
class Case:
    """An order, by its token, and the payments for it that the providers list."""

    token: str
    found: list[Found] = field(default_factory=list)


class OrderRepair:
    """Brings one order in line, in the transaction of its caller."""

    def __init__(self, case: Case, since: datetime, asked_at: datetime) -> None:
        self.case = case
        self.since = since
        self.asked_at = asked_at
        self.is_made_again = False
        self.sentences: list[str] = []
        self.findings: list[Finding] = []
        self.counts: Counter[str] = Counter()

    def run(self) -> Order:
        """Do all that is to be done, and return the order.

        Raises UnusableCopy, ReservationChanged; then the caller rolls back.
        """
        self.order = self._lock_or_make_order()
        known = [(self._find_or_make_payment(each), each) for each in self.case.found]
        new = [payment for payment, each in known if self._record_outcome(payment, each)]
        lost = [refund for payment, each in known for refund in self._record_refunds(payment, each)]
        lost.sort(key=lambda each: each[0].decided_at)
        news = [text for payment, each in known for text in self._record_money(payment, each)]
        before = State(self.order.state)
        too_late = self._deliver(new, lost) if new else None
        is_delivered = before == State.PENDING and self.order.state == State.PAID
        for refund, decision in lost:
            self._repeat(refund, decision, has_returned=is_delivered)
        for text in news:
            self._note(f"Recorded: {text}", "news")
        if new or lost or news:
            self._owe_what_is_over(new, self._decision(before, too_late))
        self._queue_mail(before, lost)
        self.order.refresh_from_db()
        return self.order

    # The order

    def _lock_or_make_order(self) -> Order:
        copy = self._last_copy()
        if copy is not None:
            # A double click may place it, or another process make it, at this moment.
            key = f"order {copy.order.idempotency_key}"
            pglock.advisory(key, xact=True).acquire()
        order = Order.objects.filter(token=self.case.token).first()
        if order is None:
            assert copy is not None
            return self._make_order(copy)
        order = lifecycle.lock_order(order.pk)
        if copy is not None:
            self._compare(order, copy)
        return order

    def _last_copy(self) -> OrderCopy | None:
        """The copy of the last payment that is unknown here: the buyer may have corrected it."""
        keys = Payment.objects.filter(order__token=self.case.token).values_list("key", flat=True)
        unknown = [each for each in self.case.found if each.listed.key not in set(keys)]
        if not unknown:
            return None
        return max(unknown, key=lambda each: each.listed.started_at).read_copy()

    def _compare(self, order: Order, copy: OrderCopy) -> None:
        """Take over the buyer's corrections of an order that was placed before the backup."""
        ids = set(order.lines.values_list("reservation_id", flat=True))
        if order.number != copy.order.number or ids != {each.reservation_id for each in copy.lines}:
            raise UnusableCopy(f"Order {order.number} has other lines here.")
        if not order.is_open or order.typed == copy.order.typed:
            return
        for name in Order.CHECKOUT_FIELDS:
            setattr(order, name, getattr(copy.order, name))
        order.email_key = customer_limits.email_key(order.email)
        order.save(update_fields=[*Order.CHECKOUT_FIELDS, "email_key"])

    def _make_order(self, copy: OrderCopy) -> Order:
        order, lines = copy.order, copy.lines
        taken = Order.objects.filter(number=order.number)
        if taken.exists() or Order.objects.filter(idempotency_key=order.idempotency_key).exists():
            raise UnusableCopy(f"Another order has the number {order.number}, or its form.")
        if OrderLine.objects.filter(
            reservation__in=[each.reservation_id for each in lines]
        ).exists():
            raise UnusableCopy("Another order has its units.")
        products = _products_of(lines)
        order.email_key = customer_limits.email_key(order.email)
        customer_limits.queue_customer(products.values(), order.email_key)
        record_lapsed([_lapsed(order, each, products[each.sku]) for each in lines])
        order.save(force_insert=True)
        for line in lines:
            line.order = order
        OrderLine.objects.bulk_create(lines)
        self.is_made_again = True
        self._note("Order made again.", "made again")
        return order

    def _find_or_make_payment(self, found: Found) -> Payment:
        listed = found.listed
        known = Payment.objects.filter(key=listed.key)
        known.filter(reference="").update(reference=listed.reference)
        payment = known.first()
        if payment is not None:
            return payment
        # An order has one started payment at most. A declined one is asked about, too.
        is_free = not self.order.payments.unanswered().exists()
        payment = self.order.payments.create(
            provider=found.provider,
            reference=listed.reference,
            key=listed.key,
            amount=listed.amount,
            currency=listed.currency,
            state=Payment.State.STARTED if is_free else Payment.State.DECLINED,
            return_url=found.read_copy().return_url,
            started_at=listed.started_at,
            expires_at=listed.started_at + settings.PAYMENT_TIME,
            copy=listed.copy,
        )
        if listed.statement.outcome is Outcome.OPEN:
            self._note("Its payment is still open.", "open")
        return payment

    def _record_outcome(self, payment: Payment, found: Found) -> bool:
        """Record how the payment ended; return whether it is paid, and was not paid here."""
        outcome = found.listed.statement.outcome
        ours = Payment.objects.filter(pk=payment.pk)
        if outcome is Outcome.DECLINED:
            started = ours.filter(state=Payment.State.STARTED)
            if started.update(state=Payment.State.DECLINED, decided_at=Now()):
                self._note("Payment recorded as declined.", "declined")
        elif outcome is Outcome.PAID:
            unpaid = ours.exclude(state=Payment.State.PAID)
            if unpaid.update(state=Payment.State.PAID, decided_at=Now()):
                payment.refresh_from_db()
                self._note("Payment recorded.", "payments recorded")
                return True
        return False

    # Money

    def _record_refunds(self, payment: Payment, found: Found) -> list[LostRefund]:
        """Record the refunds of ours that are unknown here, each with its decision."""
        by_key: dict[str, RefundRecord] = {}
        for record in found.listed.statement.refunds:
            if record.key:
                by_key[record.key] = record  # the last attempt
        known = Refund.objects.filter(key__in=by_key).values_list("key", flat=True)
        lost = [record for key, record in by_key.items() if key not in set(known)]
        return [self._record_refund(payment, record, found) for record in lost]

    def _record_refund(self, payment: Payment, record: RefundRecord, found: Found) -> LostRefund:
        decision = _read_decision(record)
        is_done = record.status is RefundStatus.DONE
        refund = payment.refunds.create(
            key=record.key,
            amount=record.amount,
            reason=decision.reason if decision else Reason.AT_PROVIDER,
            note=decision.note if decision else "",
            state=REFUND_STATES[record.status],
            # The buyer was told then.
            mailed_state=REFUND_STATES[record.status],
            attempt=max(record.attempt, 1),
            # We go on asking for one that isn't done, by its key.
            reference=record.reference if is_done else "",
            decided_at=record.made_at,
            carried_out_at=record.made_at if is_done else None,
            copy=record.copy,
        )
        amount = format_amount(record.amount, payment.currency)
        if decision is None:
            self.findings.append(
                found.as_finding(
                    f"{amount} went back for order {self.order.number}, and we can't read what it "
                    "was for. The order keeps its units.",
                    f"refund {record.key}",
                )
            )
        return refund, decision

    def _record_money(self, payment: Payment, found: Found) -> list[str]:
        """Record refunds made at the provider, disputes, and refunds that failed there."""
        if payment.state != Payment.State.PAID:
            return []
        shop_alerts.resolve_unknown_refund(payment)
        return statements.record_money(payment, found.listed.statement, self.asked_at)

    def _decision(self, before: State, too_late: Refund.Reason | None) -> Decision:
        """The decision to give money back that an order in this state had no use for."""
        if too_late is not None and self.is_made_again:
            # It was paid in time, and had its goods: we have lost them, and say so.
            return Decision(Reason.OVERSOLD, cancels=True)
        if too_late is not None:
            return Decision(too_late)
        if before in (State.PAID, State.SHIPPED):
            return Decision(Reason.PAID_TWICE)
        is_open = before == State.PENDING
        return Decision(Reason.RETURNED if is_open else Reason.PAID_AFTER_END)

    def _owe_what_is_over(self, new: list[Payment], decision: Decision) -> None:
        """Owe the buyer what we keep beyond the worth of the goods."""
        over = self.order.kept() - self.order.worth_to_keep()
        others = [each for each in self.order.payments.all() if each not in new]
        for payment in [*new, *others]:
            share = min(over, payment.kept())
            if share > 0:
                refunds.owe(payment, share, decision)
                amount = format_amount(share, payment.currency)
                self._note(f"{amount} must go back: {decision.reason.label}.", "refunds owed")
                over -= share

    # Goods

    def _deliver(self, new: list[Payment], lost: list[LostRefund]) -> Refund.Reason | None:
        """Sell the units of an open order; return the reason if they can't be had."""
        if not self.order.is_open:
            return None
        without = {
            refund.payment_id: decision.reason
            for refund, decision in lost
            if decision is not None and decision.reason in WITHOUT_GOODS
        }
        if all(payment.pk in without for payment in new):
            if not self.order.payments.unanswered().exists():
                was_late = set(without.values()) & set(lifecycle.TOO_LATE.values())
                state = State.REFUNDED if was_late else State.CANCELLED
                lifecycle.close_undelivered(self.order, state)
            return None
        returned = self._returned_units(lost)
        self._let_stale_holds_lapse(returned)
        too_late = lifecycle.deliver(self.order, returned)
        if too_late is None:
            self._note("Its units are sold.")
        else:
            self._note("Its units can't be had.", "without units")
        return too_late

    def _let_stale_holds_lapse(self, returned: dict[UUID, int]) -> None:
        """If units are lacking, let holds lapse that must have ended after the backup.

        They were held when the backup was made, and this order got the units later. Holds whose
        buyer may be at the bank stay.
        """
        gone = [Reservation.Status.RELEASED, Reservation.Status.EXPIRED]
        lines = self.order.lines.filter(reservation__status__in=gone)
        lacking: Counter[int] = Counter()
        for line in lines.select_related("reservation"):
            units = line.quantity - returned.get(line.reservation_id, 0)
            lacking[line.reservation.product_id] += units
        at_bank = Payment.objects.unanswered().values("order")
        for product in Product.objects.filter(pk__in=lacking).order_by("pk"):
            holds = Reservation.objects.all_held().filter(
                product=product, created_at__lt=self.since
            )
            others = holds.exclude(order_line__order__in=at_bank)
            units = lacking[product.pk] - product.stock
            stale = []
            for hold in others.exclude(order_line__order=self.order).order_by("expires_at"):
                if units > 0:
                    stale.append(hold.pk)
                    units -= hold.quantity
            let_lapse(stale)

    def _returned_units(self, lost: list[LostRefund]) -> dict[UUID, int]:
        """The units, by reservation, that these refunds put back on sale."""
        left = {line.reservation_id: line.quantity for line in self.order.lines.all()}
        returned: Counter[UUID] = Counter()
        for _, decision in lost:
            if decision is None:
                continue
            units = dict(left) if decision.cancels else decision.units
            if any(number > left.get(pk, 0) for pk, number in units.items()):
                continue  # it can't be repeated, and is listed
            for pk, number in units.items():
                left[pk] -= number
                if decision.cancels or decision.restock:
                    returned[pk] += number
        return dict(returned)

    def _repeat(self, refund: Refund, decision: Decision | None, *, has_returned: bool) -> None:
        """Do to the goods what the decision of the refund did."""
        amount = format_amount(refund.amount, refund.payment.currency)
        done = f"Refund of {amount} recorded"
        if decision is not None and self.order.state in (State.PAID, State.SHIPPED):
            try:
                with transaction.atomic():
                    lifecycle.repeat_decision(self.order, decision, has_returned=has_returned)
                done += _goods_in_words(decision)
            except InvalidRefund as error:
                text = f"A refund of order {self.order.number} can't be done to its units: {error}"
                [found] = [x for x in self.case.found if x.listed.key == refund.payment.key]
                self.findings.append(found.as_finding(text, f"refund {refund.key}"))
        self._note(f"{done}.", "refunds recorded")

    def _queue_mail(self, before: State, lost: list[LostRefund]) -> None:
        """Thank the buyer, who may have got no e-mail. After a refund, the buyer has got one."""
        if before == State.PENDING and self.order.state == State.PAID and not lost:
            jobs.queue("send_order_paid", order_id=self.order.pk)

    def _note(self, sentence: str, count: str = "") -> None:
        self.sentences.append(sentence)
        if count:
            self.counts[count] += 1


def _products_of(lines: list[OrderLine]) -> dict[str, Product]:
    products = {each.sku: each for each in Product.objects.filter(sku__in={x.sku for x in lines})}
    for line in lines:
        if line.sku not in products:
            raise UnusableCopy(
                f"There is no product with the SKU {line.sku} ({line.name}). Make it, receive its "
                "units, and run this again."
            )
    return products


def _lapsed(order: Order, line: OrderLine, product: Product) -> Reservation:
    return Reservation(
        id=line.reservation_id,
        product=product,
        quantity=line.quantity,
        unit_price=line.unit_price,
        buyer=order.buyer,
        strategy=product.strategy_slug,
        expires_at=order.placed_at,
        created_at=order.placed_at,
    )


def _read_decision(record: RefundRecord) -> Decision | None:
    try:
        return copies.read_decision(record.copy)
    except UnusableCopy as error:
        log.warning("The copy of a refund can't be used: %s", error)
        return None


def _goods_in_words(decision: Decision) -> str:
    if decision.cancels:
        return ", order cancelled, its units back on sale"
    if not decision.units:
        return ""
    units = counted(sum(decision.units.values()), "unit")
    return f", {units} {'back on sale' if decision.restock else 'written off'}"
