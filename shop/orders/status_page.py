"""The standing of an order, for the pages that show it to its buyer."""

from __future__ import annotations

import enum
import logging
import math
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any

from django.db.models import Exists, F, Min, OuterRef
from django.db.models.functions import Now

from inventory.models import Product, Reservation
from shop import logs
from shop.compiled_queries import compiled
from shop.models import Dispute, Order, OrderQuerySet, Payment, PaymentQuerySet, Refund
from shop.orders import checkout, lifecycle
from shop.payments import ProviderUnavailable

log = logging.getLogger(__name__)


class Situation(enum.StrEnum):
    """The first thing that the buyer has to know."""

    UNPAID = "unpaid"
    """No payment was begun, or the provider could not be reached for it."""
    PAYING = "paying"
    """A payment is under way, and the holds are alive."""
    DECLINED = "declined"
    """The last payment was declined, and the holds are alive."""
    LATE = "late"
    """The holds lapsed, but a payment can still prolong them."""
    GONE = "gone"
    """The holds can't be prolonged any more, and no payment is under way."""
    PAYING_TOO_LATE = "paying-too-late"
    """The holds can't be prolonged any more, but a payment is under way."""
    PAID = "paid"
    SHIPPED = "shipped"
    CANCELLED = "cancelled"
    GOODS_GONE = "goods-gone"
    """Paid too late: refunded, since the units could not be taken again."""
    REFUNDED = "refunded"


MOST_UNFINISHED = 10  # orders that the other pages list
CLOSED = {
    Order.State.PAID: Situation.PAID,
    Order.State.SHIPPED: Situation.SHIPPED,
    Order.State.CANCELLED: Situation.CANCELLED,
}
IN_SHORT = {
    Situation.UNPAID: "waiting for payment",
    Situation.PAYING: "waiting for the bank's answer",
    Situation.DECLINED: "payment declined, you can try again",
    Situation.LATE: "not paid in its time, you can still try",
    Situation.GONE: "not paid in its time",
    Situation.PAYING_TOO_LATE: "its time is over, waiting for the bank's answer",
    Situation.PAID: "paid",
    Situation.SHIPPED: "shipped",
    Situation.CANCELLED: "cancelled",
    Situation.GOODS_GONE: "paid too late, refunded",
    Situation.REFUNDED: "refunded",
}
NOT_GIVEN_BACK_IN_SHORT = {
    Situation.GOODS_GONE: "paid too late",
    Situation.REFUNDED: "closed",
}
OWED_IN_SHORT = {
    Situation.GOODS_GONE: "paid too late, refund not finished",
    Situation.REFUNDED: "refund not finished",
}
NOT_ACCEPTED_IN_SHORT = {Situation.DECLINED: "not paid: the bank does not accept the payment"}
LET_GO_IN_SHORT = {
    Situation.GONE: "not paid, and no longer kept for you",
    Situation.PAYING_TOO_LATE: "no longer kept for you, waiting for the bank's answer",
}
PAYABLE = {Situation.UNPAID, Situation.PAYING, Situation.DECLINED, Situation.LATE}


@dataclass(frozen=True)
class Standing:
    """An order, and the facts that its page shows."""

    order: Order
    situation: Situation
    seconds_left: int
    """Until the first hold of an open order lapses, by the database's clock, rounded up, or 0."""
    payments: list[Payment]
    refunds: list[Refund]
    disputes: list[Dispute]
    """Those by which the buyer's bank has money of ours."""
    provider_is_silent: bool
    """Whether the provider didn't say how the payment stands."""
    was_let_go: bool = False
    """Whether staff released a hold of the open order before its time was over."""

    @property
    def can_be_paid(self) -> bool:
        """Whether to offer a payment: none is started for goods that can't be delivered."""
        return self.situation in PAYABLE

    @property
    def template(self) -> str:
        """The template that tells the buyer of this situation."""
        return f"shop/order_status/{self.situation.name.lower()}.html"

    @property
    def in_short(self) -> str:
        """The situation in a few words, for a list."""
        words = dict(IN_SHORT)
        if self.was_not_accepted:
            words |= NOT_ACCEPTED_IN_SHORT
        if self.was_let_go:
            words |= LET_GO_IN_SHORT
        if self.owes_money:
            words |= OWED_IN_SHORT
        elif not self.is_given_back:
            words |= NOT_GIVEN_BACK_IN_SHORT
        return words[self.situation]

    @property
    def refund_for_lateness(self) -> Refund | None:
        """The refund of a payment that came too late for the goods, if any."""
        reasons = lifecycle.TOO_LATE.values()
        return next((refund for refund in self.refunds if refund.reason in reasons), None)

    @property
    def has_declined_refund(self) -> bool:
        """Whether the provider has declined a refund, so that the money isn't on its way."""
        return self._has_refund(Refund.State.FAILED)

    @property
    def has_due_refund(self) -> bool:
        """Whether we owe a refund that the provider hasn't confirmed."""
        return self._has_refund(Refund.State.DUE)

    @property
    def has_given_back(self) -> bool:
        """Whether the provider has given any money back."""
        return self._has_refund(Refund.State.DONE)

    def _has_refund(self, state: Refund.State) -> bool:
        return any(refund.state == state for refund in self.refunds)

    @property
    def owes_money(self) -> bool:
        """Whether we owe the buyer money that isn't on its way."""
        return self.has_due_refund or self.has_declined_refund

    @property
    def is_given_back(self) -> bool:
        """Whether nothing that was charged is with us or the buyer's bank, nor owed."""
        return not (self.owes_money or self.disputes) and self.has_given_back

    @property
    def was_charged(self) -> bool:
        return any(payment.state == Payment.State.PAID for payment in self.payments)

    @property
    def taken_by_bank(self) -> Decimal:
        """The sum that the buyer's bank has taken back from us."""
        return sum((dispute.amount for dispute in self.disputes), Decimal(0))

    @property
    def back_if_won(self) -> Decimal:
        """The sum that we give back if the buyer's bank decides for us; the order is closed."""
        return self.order.back_if_won() if self.order.is_closed else Decimal(0)

    @cached_property
    def missing(self) -> Decimal:
        """``Order.missing``. Only refunds and disputes take money from an order that is paid."""
        return self.order.missing() if self.refunds or self.disputes else Decimal(0)

    @property
    def is_disputed(self) -> bool:
        """Whether the buyer's bank has still to decide."""
        return any(dispute.state == Dispute.State.OPEN for dispute in self.disputes)

    @property
    def was_not_accepted(self) -> bool:
        """Whether the provider did not even open the last payment."""
        return bool(self.payments) and self.payments[-1].was_not_accepted

    @property
    def awaits_answer(self) -> bool:
        """Whether a payment is under way: then the page reloads by itself."""
        return any(payment.is_under_way for payment in self.payments)

    @property
    def fingerprint(self) -> str:
        """A text that changes whenever the page has something new to show."""
        parts = [self.situation, "silent" if self.provider_is_silent else ""]
        parts += [payment.state for payment in self.payments]
        parts += [refund.state for refund in self.refunds]
        parts += [dispute.state for dispute in self.disputes]
        return "-".join(filter(None, parts))


def look_up(token: str) -> Standing:
    """Settle the order if a payment is under way, and return its standing.

    A provider that can't be reached raises nothing here. Raises Order.DoesNotExist.
    """
    order = _order_at(token=token).first()
    if order is None:
        raise Order.DoesNotExist(f"There is no order {token}.")
    logs.bind_order(order)
    payments = list(_payments_at(token=token))
    if not any(payment.state == Payment.State.STARTED for payment in payments):
        return _standing(order, payments)
    silent = False
    try:
        order = lifecycle.settle(order.pk)
    except ProviderUnavailable as error:
        log.warning("Order %s could not be settled: %s", order.number, error)
        silent = True
    return recorded_standing(order, provider_is_silent=silent)


@compiled
def _order_at(token: str) -> OrderQuerySet:
    return Order.objects.filter(token=token).order_by()


@compiled
def _payments_at(token: str) -> PaymentQuerySet:
    """The order's payments, each with ``has_refunds`` and ``has_disputes`` (see ``Standing``)."""
    refunds = Refund.objects.filter(payment=OuterRef("pk"))
    disputes = Dispute.objects.taken().filter(payment=OuterRef("pk"))
    return Payment.objects.filter(order__token=token).annotate(
        has_refunds=Exists(refunds), has_disputes=Exists(disputes)
    )


def unfinished_standings(buyer: str, product: Product | None = None) -> list[Standing]:
    """The standings of the buyer's orders that may still get paid; of this product, or of all.

    If there are very many, it is the newest: each takes a few statements, on every page. The list
    of the buyer's orders has all.
    """
    if _pending_of(buyer=buyer).first() is None:
        return []
    waiting = checkout.unfinished_orders(buyer)
    if product is not None:
        waiting = waiting.with_product(product.pk).distinct()
    stands = [recorded_standing(order) for order in waiting[:MOST_UNFINISHED]]
    return [standing for standing in stands if standing.can_be_paid or standing.awaits_answer]


@compiled
def _pending_of(buyer: str) -> OrderQuerySet:
    return Order.objects.pending().of_buyer(buyer).order_by()


def recorded_standing(order: Order, *, provider_is_silent: bool = False) -> Standing:
    """The standing by the shop's own records, without asking the provider."""
    payments = list(_payments_at(token=order.token))
    return _standing(order, payments, provider_is_silent=provider_is_silent)


def _standing(order: Order, payments: list[Any], *, provider_is_silent: bool = False) -> Standing:
    """The standing of the order with these payments, of ``_payments_at``."""
    refunds: list[Refund] = []
    if any(payment.has_refunds for payment in payments):
        refunds += Refund.objects.filter(payment__order=order).select_related("payment")
    disputes: list[Dispute] = []
    if any(payment.has_disputes for payment in payments):
        taken = Dispute.objects.taken().filter(payment__order=order)
        disputes += taken.select_related("payment")
    has_lost_a_hold = order.is_open and _has_lost_a_hold(order)
    seconds_left = _seconds_left(order) if order.is_open and not has_lost_a_hold else 0
    if order.is_open and not seconds_left:
        # Its holds have ended: they lapsed, or somebody has settled or cancelled the order since
        # it was read, such as the bank's message at the moment of the buyer's return.
        read_again = Order.objects.get(pk=order.pk)
        if not read_again.is_open:
            return recorded_standing(read_again, provider_is_silent=provider_is_silent)
    return Standing(
        order=order,
        situation=_situation(order, payments, refunds, seconds_left, has_lost_a_hold),
        seconds_left=seconds_left,
        payments=payments,
        refunds=refunds,
        disputes=disputes,
        provider_is_silent=provider_is_silent,
        was_let_go=has_lost_a_hold and lifecycle.was_let_go(order),
    )


def _has_lost_a_hold(order: Order) -> bool:
    return Order.objects.filter(checkout.has_lost_a_hold(), pk=order.pk).exists()


def _seconds_left(order: Order) -> int:
    holds = Reservation.objects.held().filter(order_line__order=order)
    left: timedelta | None = holds.aggregate(left=Min(F("expires_at") - Now()))["left"]
    return max(0, math.ceil(left.total_seconds())) if left else 0


def _situation(
    order: Order,
    payments: list[Payment],
    refunds: list[Refund],
    seconds_left: int,
    has_lost_a_hold: bool,
) -> Situation:
    if order.state == Order.State.REFUNDED:
        too_late = any(refund.reason in lifecycle.TOO_LATE.values() for refund in refunds)
        return Situation.GOODS_GONE if too_late else Situation.REFUNDED
    if order.state != Order.State.PENDING:
        return CLOSED[Order.State(order.state)]
    under_way = bool(payments) and payments[-1].is_under_way
    if has_lost_a_hold:
        return Situation.PAYING_TOO_LATE if under_way else Situation.GONE
    if not seconds_left:
        return Situation.LATE
    if under_way:
        return Situation.PAYING
    was_declined = any(payment.state == Payment.State.DECLINED for payment in payments)
    return Situation.DECLINED if was_declined else Situation.UNPAID
