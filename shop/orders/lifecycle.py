"""What becomes of an order: settled, cancelled, refunded, shipped; each step exactly once.

``settle`` is the only place where money and goods meet. Every step locks the order's row first
(the order of locks is told in ``checkout``), looks at its state under the lock, and decides in
one transaction. Money is given back after it, by a job (``refunds``), and e-mails go by jobs that
are queued in it: no provider is ever waited for with a lock in hand.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Sum
from django.db.models.functions import Now

from inventory.exceptions import BuyerLimitExceeded, InsufficientStock, NotForSale
from inventory.locking import lock_products
from inventory.models import Product, Reservation
from inventory.reservations import (
    confirm_or_retake,
    release,
    return_units,
    return_written_off,
    write_off,
)
from inventory.words import counted
from shop import jobs, money, payments
from shop.exceptions import InvalidRefund, LimitPerCustomer, NotInThisState, OrderChanged
from shop.models import Order, OrderLine, Payment, Refund
from shop.orders import customer_limits, refunds
from shop.payments.base import Outcome, ProviderUnavailable

log = logging.getLogger(__name__)

State = Order.State
# Why a paid order can't be delivered, as its buyer is told.
TOO_LATE: dict[type[Exception], Refund.Reason] = {
    InsufficientStock: Refund.Reason.GOODS_GONE,
    NotForSale: Refund.Reason.NOT_FOR_SALE,
    BuyerLimitExceeded: Refund.Reason.OVER_LIMIT,
    LimitPerCustomer: Refund.Reason.OVER_LIMIT,
}
CLOSE_AFTER = timedelta(minutes=5)  # from the end of the holds


class CancelledBy(enum.StrEnum):
    """The one who cancelled an order, as its buyer is told."""

    BUYER = "buyer"
    STAFF = "staff"
    TIME = "time"
    """Nobody: its time was over, and it was not paid."""


def lock_order(order_id: int) -> Order:
    """Lock the order's row until the transaction ends. Raises Order.DoesNotExist."""
    return Order.objects.select_for_update(no_key=True).get(pk=order_id)


# Money and goods


def settle(order_id: int) -> Order:
    """Ask the provider how the order's payments ended, act on it, and return the order.

    May be called by anybody at any time, any number of times and at once: the buyer's return,
    the provider's message and the worker do. What was paid is kept only with the goods; if a hold
    is gone and its units can't be taken again, or the order is closed or paid for already, the
    money goes back.

    Raises Order.DoesNotExist, ProviderUnavailable if we couldn't learn how the payment under way
    stands.
    """
    answers, silence = _ask_providers(order_id)
    if Outcome.PAID in answers.values():
        _take_back_lapsed_of_customer(order_id)
    if any(answer is not Outcome.OPEN for answer in answers.values()):
        with transaction.atomic():
            order = lock_order(order_id)
            for payment, answer in answers.items():
                if answer is Outcome.PAID and _is_first_to_record(payment, Payment.State.PAID):
                    _accept(order, payment)
                elif answer is Outcome.DECLINED:
                    _is_first_to_record(payment, Payment.State.DECLINED)
    if silence is not None:
        raise silence
    return Order.objects.get(pk=order_id)


def _ask_providers(order_id: int) -> tuple[dict[Payment, Outcome], ProviderUnavailable | None]:
    """Ask how each payment ended that isn't known to be paid; a declined one may be by now.

    Returns the answers, and what kept us from asking about the payment under way. A declined
    payment whose provider is silent stays declined: it keeps nobody from trying again.
    """
    answers: dict[Payment, Outcome] = {}
    silence = None
    undecided = Payment.objects.filter(order=order_id).exclude(state=Payment.State.PAID)
    for payment in undecided.select_related("order"):
        try:
            answers[payment] = payments.status(payment)
        except ProviderUnavailable as error:
            log.warning("Payment %s: %s", payment.pk, error)
            if payment.state == Payment.State.STARTED:
                silence = error
    return answers, silence


def _take_back_lapsed_of_customer(order_id: int) -> None:
    """Before units that are gone are taken again: the customer's other lapsed holds don't count."""
    order = Order.objects.get(pk=order_id)
    if gone := _gone_units(order):
        customer_limits.take_back_lapsed(
            gone,
            buyer=order.buyer,
            email_key=order.email_key,
            but=order.lines.values_list("reservation_id", flat=True),
        )


def _is_first_to_record(payment: Payment, state: Payment.State) -> bool:
    """Record how the payment ended; False if somebody else has. Paid stays paid."""
    not_yet = Payment.objects.filter(pk=payment.pk).exclude(state__in=[Payment.State.PAID, state])
    return not_yet.update(state=state, decided_at=Now()) == 1


def _accept(order: Order, payment: Payment) -> None:
    """Give goods for money that has come in just now; or the money back."""
    if order.state in (State.PAID, State.SHIPPED):
        refunds.owe(payment, payment.amount, Refund.Reason.PAID_TWICE)
    elif order.state != State.PENDING:
        refunds.owe(payment, payment.amount, Refund.Reason.PAID_AFTER_END)
    elif (too_late := _hand_over(order)) is None:
        _pay(order)
    else:
        _give_goods_back(order)
        _change(order, State.REFUNDED, closed_at=Now())
        refunds.owe(payment, payment.amount, too_late)


def _hand_over(order: Order) -> Refund.Reason | None:
    """Sell the order's holds, all or none; the reason if units are gone for good, else None."""
    lines = order.lines.values_list("reservation_id", flat=True)
    products = Product.objects.filter(reservations__in=lines).distinct()
    try:
        with transaction.atomic():
            customer_limits.queue_customer(products, order.email_key)
            gone = _gone_units(order)
            if gone:
                customer_limits.check_customer(
                    products.filter(pk__in=gone),
                    buyer=order.buyer,
                    email_key=order.email_key,
                    more=gone,
                )
            confirm_or_retake(lines)
    except tuple(TOO_LATE) as error:
        log.info("Order %s is paid, but can't be delivered: %s", order.number, error)
        return TOO_LATE[type(error)]
    return None


def _pay(order: Order) -> None:
    """Note that the order is paid; its buyer and the merchant are told."""
    _change(order, State.PAID, paid_at=Now())
    jobs.queue("send_order_paid", order_id=order.pk)
    if settings.MANAGERS:
        jobs.queue("send_order_to_managers", order_id=order.pk)


def _gone_units(order: Order) -> dict[int, int]:
    """Units by product of holds that were let go or taken back meanwhile."""
    gone = Reservation.objects.filter(
        order_line__order=order,
        status__in=[Reservation.Status.RELEASED, Reservation.Status.EXPIRED],
    )
    by_product = gone.order_by("product_id").values_list("product_id")
    return dict(by_product.annotate(units=Sum("quantity")))


def settle_free(order_id: int) -> Order:
    """Settle an order that costs nothing; no provider is needed for it."""
    with transaction.atomic():
        order = lock_order(order_id)
        if order.state == State.PENDING and order.total == 0 and _hand_over(order) is None:
            _pay(order)
    return order


def unsettled_orders() -> list[int]:
    """The orders with payments of which we don't know how they ended, whatever became of them.

    Also cancelled ones: the buyer may still be at the bank. It doesn't go on for ever, since
    the provider lets no payment be open for longer than its ``expires_at``.
    """
    unanswered = Payment.objects.unanswered().order_by("started_at")
    return list(unanswered.values_list("order_id", flat=True).distinct())


# Cancelling


def cancel(order_id: int, *, by: CancelledBy = CancelledBy.STAFF) -> Order:
    """Cancel the order for its buyer or the staff, and return it; again, it changes nothing.

    Its holds are released; if it was paid, its units go back on sale and what is left of the
    money is given back. The buyer is told, once.

    Raises NotInThisState if it has been shipped (see ``refund``), Order.DoesNotExist.
    """
    with transaction.atomic():
        order = lock_order(order_id)
        if order.state == State.SHIPPED:
            raise NotInThisState(
                f"Order {order.number} has been shipped: it can be refunded, not cancelled."
            )
        if order.can_be_cancelled:
            _cancel(order, by)
    return order


def cancel_unpaid(order_id: int) -> bool:
    """Cancel the order unless it is paid by now, or closed; return whether it was done.

    A buyer who is just paying for it gets the money back. Raises Order.DoesNotExist,
    ProviderUnavailable.
    """
    settle(order_id)  # paid already, perhaps
    with transaction.atomic():
        order = lock_order(order_id)
        if not order.is_open:
            return False
        _cancel(order, CancelledBy.STAFF)
    return True


def _cancel(order: Order, by: CancelledBy) -> None:
    _give_goods_back(order)
    kept = refunds.kept_payments(order) if order.state == State.PAID else []
    if order.state == State.PAID:
        order.lines.update(refunded=F("quantity"))
    for payment, left in kept:
        refunds.owe(payment, left, Refund.Reason.CANCELLED)
    if not kept:  # else the e-mail about the refund tells of it
        jobs.queue("send_order_cancelled", order_id=order.pk, by=by)
    _change(order, State.CANCELLED, closed_at=Now())


def abandoned_orders() -> list[int]:
    """Pending orders whose holds are over for a while, with no payment that may still end well."""
    alive = OrderLine.objects.filter(
        order=OuterRef("pk"),
        reservation__status=Reservation.Status.HELD,
        reservation__expires_at__gt=Now() - CLOSE_AFTER,
    )
    unanswered = Payment.objects.unanswered().filter(order=OuterRef("pk"))
    waiting = Order.objects.pending().exclude(Exists(alive)).exclude(Exists(unanswered))
    return list(waiting.order_by("placed_at").values_list("pk", flat=True))


def close_abandoned(order_id: int) -> Order:
    """Cancel the order if it is abandoned; a payment that was begun meanwhile keeps it open."""
    with transaction.atomic():
        order = lock_order(order_id)
        if order_id in abandoned_orders():
            _cancel(order, CancelledBy.STAFF if was_let_go(order) else CancelledBy.TIME)
    return order


def was_let_go(order: Order) -> bool:
    """Whether units of the order were put back on sale while its time wasn't over.

    Its buyer can't do that without cancelling it.
    """
    return order.lines.filter(
        reservation__status=Reservation.Status.RELEASED,
        reservation__decided_at__lt=F("reservation__expires_at"),
    ).exists()


# Refunding and shipping


def refund(
    order_id: int,
    *,
    units: Mapping[int, int] | None = None,
    amount: Decimal | None = None,
    restock: bool = False,
    seen: Decimal | None = None,
    seen_units: int | None = None,
    note: str = "",
    reason: Refund.Reason = Refund.Reason.RETURNED,
) -> Order:
    """Take units of a paid order back, give money back for them, and return the order.

    ``units``: how many units of which lines (primary keys) at their price, as far as so much of
    the money is kept; ``amount``: so much, whatever it is for; neither: all that is left.
    ``restock`` puts the units back on sale; else they are written off (see ``restock``). With the
    last units goes the shipping cost. When no unit and no money is left the order is REFUNDED;
    before, units and money can go back in any order.

    ``seen`` is the sum refunded so far that the caller saw (``Order.refunded``), ``seen_units``
    the number of units (``Order.refunded_units``). Give both wherever a request may be repeated:
    the second one finds other numbers, and changes nothing. ``reason`` is told to the buyer; it is
    for units, since an amount is always GOODWILL.

    Raises InvalidRefund, OrderChanged, NotInThisState, Order.DoesNotExist.
    """
    if amount is not None and (units is not None or restock):
        raise InvalidRefund("An amount is for no units in particular: give one or the other.")
    with transaction.atomic():
        order = lock_order(order_id)
        if order.state not in (State.PAID, State.SHIPPED):
            raise NotInThisState(
                f"Order {order.number} is {order.get_state_display()}: there is nothing to refund."
            )
        _check_seen(order, seen, seen_units)
        if amount is not None:
            _refund_money(order, _checked_amount(order, amount), Refund.Reason.GOODWILL, note)
        else:
            value = _take_units_back(order, units, restock=restock)
            _refund_money(order, min(value, order.kept()), reason, note)
        if order.kept() == 0 and not any(line.left for line in order.lines.all()):
            _change(order, State.REFUNDED, closed_at=Now())
    return order


def _check_seen(order: Order, refunded: Decimal | None, units: int | None) -> None:
    if refunded not in (None, order.refunded()):
        back = money.format_amount(order.refunded(), order.currency)
        raise _changed(f"{back} are refunded by now")
    if units not in (None, order.refunded_units()):
        raise _changed(f"{_units_are(order.refunded_units())} refunded by now")


def _units_are(number: int) -> str:
    return counted(number, "unit is", "units are")


def _changed(by_now: str) -> OrderChanged:
    return OrderChanged(f"Nothing was done: {by_now}. Open the form again to do more.")


def _checked_amount(order: Order, amount: Decimal) -> Decimal:
    kept = order.kept()
    if kept == 0:
        raise InvalidRefund("No money of this order is left to give back.")
    if amount.is_nan() or not 0 < amount <= kept:
        most = money.format_amount(kept, order.currency)
        raise InvalidRefund(f"The amount must be more than 0, and at most the {most} kept.")
    if amount != round(amount, 2):
        raise InvalidRefund(f"The amount must be in whole cents, not {amount}.")
    return amount


def _take_units_back(order: Order, units: Mapping[int, int] | None, *, restock: bool) -> Decimal:
    """Take the units back, on sale again if ``restock``; return what they are worth."""
    lines = {line.pk: line for line in order.lines.select_related("reservation")}
    if units is None:
        units = {line.pk: line.left for line in lines.values() if line.left}
        if not units:
            raise InvalidRefund("There are no units left to refund.")
    _check_units(lines, units, {pk: line.left for pk, line in lines.items()})
    if restock:
        lock_products(lines[pk].reservation.product_id for pk in units)
    value = Decimal(0)
    take_back = return_units if restock else write_off
    for pk, number in sorted(units.items()):
        take_back(lines[pk].reservation_id, number)
        value += lines[pk].unit_price * number
        lines[pk].refunded += number
        lines[pk].save(update_fields=["refunded"])
    if not any(line.left for line in lines.values()):
        value += order.shipping_cost
    return value


def _check_units(
    lines: dict[int, OrderLine], units: Mapping[int, int], left: Mapping[int, int]
) -> None:
    """Raise InvalidRefund unless these are units of these lines, and so many are ``left``."""
    if not units:
        raise InvalidRefund("Say how many units of which line it is about.")
    for pk, number in units.items():
        if pk not in lines:
            raise InvalidRefund("This line isn't one of the order's.")
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise InvalidRefund(f"The units must be a whole number from 1, not {number!r}.")
        if number > left[pk]:
            raise InvalidRefund(f"{number} of {lines[pk].name} are too many: {left[pk]} are left.")


def restock(order_id: int, units: Mapping[int, int], *, seen_units: int | None = None) -> Order:
    """Put units back on sale that the buyer has no more, and return the order; no money moves.

    ``units``: how many of which lines (primary keys), of those that were refunded without it
    (``OrderLine.off_sale``). ``seen_units`` is how many units of the order were back on sale when
    the caller looked (``Order.returned_units``): give it wherever a request may be repeated.

    Raises InvalidRefund, OrderChanged, Order.DoesNotExist.
    """
    with transaction.atomic():
        order = lock_order(order_id)
        if seen_units not in (None, order.returned_units()):
            raise _changed(f"{_units_are(order.returned_units())} back on sale by now")
        lines = {line.pk: line for line in order.lines.select_related("reservation")}
        _check_units(lines, units, {pk: line.off_sale for pk, line in lines.items()})
        lock_products(lines[pk].reservation.product_id for pk in units)
        for pk, number in sorted(units.items()):
            _put_on_sale(lines[pk], number)
    return order


def _put_on_sale(line: OrderLine, units: int) -> None:
    """Those that were written off first, then those that a closed order still has as sold."""
    written_off = min(units, line.reservation.written_off)
    if written_off:
        return_written_off(line.reservation_id, written_off)
    if units > written_off:
        return_units(line.reservation_id, units - written_off)


def _refund_money(order: Order, amount: Decimal, reason: Refund.Reason, note: str) -> None:
    for payment, left in refunds.kept_payments(order):
        share = min(amount, left)
        if share > 0:
            refunds.owe(payment, share, reason, note)
        amount -= share


def ship(order_id: int, tracking: str = "") -> Order:
    """Note that the order is on its way, and return it; the buyer is told, once.

    ``tracking`` is the carrier's reference. Again with the same one, it changes nothing.

    Raises NotInThisState if it isn't paid or is closed, ValidationError, Order.DoesNotExist.
    """
    with transaction.atomic():
        order = lock_order(order_id)
        if order.state == State.SHIPPED and order.tracking == tracking.strip():
            return order
        if order.state != State.PAID:
            raise NotInThisState(
                f"Order {order.number} is {order.get_state_display()}: it can't be shipped."
            )
        order.tracking = tracking.strip()
        order.clean_fields()
        _change(order, State.SHIPPED, shipped_at=Now(), tracking=order.tracking)
        jobs.queue("send_order_shipped", order_id=order.pk)
    return order


# What the steps share


def _give_goods_back(order: Order) -> None:
    """Release what is held, return what is sold and not refunded yet; nothing else changes."""
    lines = list(order.lines.select_related("reservation"))
    lock_products(line.reservation.product_id for line in lines)
    for line in lines:
        reservation = Reservation.objects.get(pk=line.reservation_id)  # under the lock
        if reservation.status == Reservation.Status.SOLD:
            if reservation.kept:
                return_units(reservation.pk, reservation.kept)
        else:
            release(reservation.pk)


def _change(order: Order, state: Order.State, **fields: object) -> None:
    """Write the locked order's new state, with what goes with it."""
    Order.objects.filter(pk=order.pk).update(state=state, **fields)
    order.refresh_from_db()
