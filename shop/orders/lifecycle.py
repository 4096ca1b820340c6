"""The life of an order: settling, cancelling, refunding, shipping. Each step happens once.

``settle`` is the only place where money and goods meet. Every step locks the order's row first
(``checkout`` documents the order of locks), looks at its state under the lock, and decides in one
transaction. That transaction queues the jobs that give money back (``refunds``) and send e-mails:
we never wait for a provider with a lock in hand.
"""

from __future__ import annotations

import enum
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Case, Exists, F, OuterRef, Value, When
from django.db.models.functions import Now

from inventory.exceptions import (
    BuyerLimitExceeded,
    InsufficientStock,
    NotForSale,
    ReservationEnded,
)
from inventory.locking import lock_products
from inventory.models import Product, Reservation
from inventory.reservations import (
    confirm_or_retake,
    confirm_together,
    release,
    return_units,
    return_written_off,
    write_off,
)
from inventory.words import counted
from shop import jobs, logs, money, payments, shop_alerts
from shop.exceptions import InvalidRefund, LimitPerCustomer, NotInThisState, OrderChanged
from shop.models import Order, OrderLine, OrderQuerySet, Payment, Refund
from shop.orders import customer_limits, refunds
from shop.orders.copies import Decision
from shop.payments.base import Outcome, ProviderUnavailable

log = logging.getLogger(__name__)

State = Order.State
# The reasons why a paid order can't be delivered, in the words for its buyer.
TOO_LATE: dict[type[Exception], Refund.Reason] = {
    InsufficientStock: Refund.Reason.GOODS_GONE,
    NotForSale: Refund.Reason.NOT_FOR_SALE,
    BuyerLimitExceeded: Refund.Reason.OVER_LIMIT,
    LimitPerCustomer: Refund.Reason.OVER_LIMIT,
}
ENDS = {Outcome.PAID: Payment.State.PAID, Outcome.DECLINED: Payment.State.DECLINED}
HandOver = Callable[[Order], Refund.Reason | None]
CLOSE_AFTER = timedelta(minutes=5)  # after the holds have lapsed

# In SQL, since every purchase needs them: Django takes longer to write them than PostgreSQL to
# answer them (measured).
UNDECIDED = "SELECT * FROM shop_payment WHERE order_id = %(order)s AND state <> 'PAID' ORDER BY id"
LOCK_ORDER = """
    SELECT *, ARRAY(
        SELECT reservation_id FROM shop_orderline AS line WHERE line.order_id = shop_order.id
    ) AS hold_ids
    FROM shop_order WHERE id = %(order)s FOR NO KEY UPDATE
"""
RECORD_END = """
    UPDATE shop_payment SET state = %(state)s, decided_at = statement_timestamp()
    WHERE id = %(payment)s AND state NOT IN ('PAID', %(state)s)
"""


class CancelledBy(enum.StrEnum):
    """The one who cancelled an order, for the e-mail to its buyer."""

    BUYER = "buyer"
    STAFF = "staff"
    TIME = "time"
    """Nobody: its time was over before it was paid."""


def lock_order(order_id: int) -> Order:
    """Lock the order's row until the transaction ends. Raises Order.DoesNotExist."""
    for order in Order.objects.raw(LOCK_ORDER, {"order": order_id}):
        logs.bind_order(order)
        return order
    raise Order.DoesNotExist(f"There is no order {order_id}.")


# Money and goods


def settle(order_id: int) -> Order:
    """Ask the provider how the order's payments ended, act on it, and return the order.

    Anybody may call this at any time, any number of times and at once: the buyer's return, the
    provider's message and the worker do. We keep the money only if the buyer gets the goods. If a
    hold is gone and its units can't be taken again, or if the order is closed or paid already, the
    money goes back.

    Raises ProviderUnavailable if the provider doesn't say how the payment under way stands,
    Order.DoesNotExist.
    """
    news, silence = _ask_providers(order_id)
    order = _record_news(order_id, news) if news else None
    if silence is not None:
        raise silence
    return order or Order.objects.get(pk=order_id)


def _ask_providers(
    order_id: int,
) -> tuple[dict[Payment, Payment.State], ProviderUnavailable | None]:
    """Ask how the order's payments ended, except those known to be paid.

    We ask about declined payments, too: they may turn out to be paid. Returns the ends that are not
    on record yet, and the error if the provider of the payment under way is silent. A declined
    payment whose provider is silent stays declined: it keeps nobody from trying again.
    """
    news: dict[Payment, Payment.State] = {}
    silence = None
    for payment in Payment.objects.raw(UNDECIDED, {"order": order_id}):
        try:
            end = ENDS.get(payments.status(payment))
            if end is not None and end != payment.state:
                news[payment] = end
        except ProviderUnavailable as error:
            logs.bind_order(payment.order)
            log.warning("Payment %s can't be looked up: %s", payment.pk, error)
            if payment.state == Payment.State.STARTED:
                silence = error
    return news, silence


def _record_news(order_id: int, news: Mapping[Payment, Payment.State]) -> Order:
    """Record how these payments ended, act on it, and return the order."""
    try:
        return _act_on(order_id, news, _sell_holds)
    except ReservationEnded:  # units must be taken again, which takes more locks
        _take_back_lapsed_of_customer(order_id)
        return _act_on(order_id, news, _hand_over)


@transaction.atomic
def _act_on(order_id: int, news: Mapping[Payment, Payment.State], hand_over: HandOver) -> Order:
    order = lock_order(order_id)
    for payment, end in news.items():
        if _is_first_to_record(payment, end) and end == Payment.State.PAID:
            _accept(order, payment, hand_over)
    return order


def _take_back_lapsed_of_customer(order_id: int) -> None:
    """If units must be taken again, first take back the customer's other lapsed holds of them."""
    order = Order.objects.get(pk=order_id)
    if gone := _gone_units(order):
        customer_limits.take_back_lapsed(
            gone,
            buyer=order.buyer,
            email_key=order.email_key,
            but=order.lines.values_list("reservation_id", flat=True),
        )


def _is_first_to_record(payment: Payment, state: Payment.State) -> bool:
    """Record how the payment ended; False if another process has done so. Paid stays paid."""
    with connection.cursor() as cursor:
        cursor.execute(RECORD_END, {"payment": payment.pk, "state": state})
        return bool(cursor.rowcount)


def _accept(order: Order, payment: Payment, hand_over: HandOver) -> None:
    """Give the goods for a payment that has just come in, or give the money back."""
    if order.state in (State.PAID, State.SHIPPED):
        refunds.owe(payment, payment.amount, Decision(Refund.Reason.PAID_TWICE))
    elif order.state != State.PENDING:
        refunds.owe(payment, payment.amount, Decision(Refund.Reason.PAID_AFTER_END))
    elif (too_late := hand_over(order)) is None:
        _mark_paid(order)
    else:
        _give_goods_back(order)
        _change_state(order, State.REFUNDED, closed_at=Now())
        refunds.owe(payment, payment.amount, Decision(too_late))


def _sell_holds(order: Order) -> None:
    """Sell the order's holds. Raises ReservationEnded if units must be taken again."""
    confirm_together(order.hold_ids)


def _hand_over(order: Order, returned: Mapping[UUID, int] | None = None) -> Refund.Reason | None:
    """Sell the order's holds, all or none; return the reason if units are gone for good."""
    lines = order.lines.values_list("reservation_id", flat=True)
    products = Product.objects.filter(reservations__in=lines).distinct()
    try:
        with transaction.atomic():
            customer_limits.queue_customer(products, order.email_key)
            gone = _gone_units(order, returned)
            if gone:
                customer_limits.check_customer(
                    products.filter(pk__in=gone),
                    buyer=order.buyer,
                    email_key=order.email_key,
                    more=gone,
                )
            confirm_or_retake(lines, returned=returned)
    except tuple(TOO_LATE) as error:
        log.warning("Order %s is paid, but can't be delivered: %s", order.number, error)
        return TOO_LATE[type(error)]
    return None


def _mark_paid(order: Order) -> None:
    """Record that the order is paid, and e-mail its buyer and the managers."""
    _change_state(order, State.PAID, paid_at=Now())
    tasks = ["send_order_paid", *(["send_order_to_managers"] if settings.MANAGERS else [])]
    jobs.queue_together({task: {"order_id": order.pk} for task in tasks})


def _gone_units(order: Order, returned: Mapping[UUID, int] | None = None) -> dict[int, int]:
    """The units, by product, of the order's holds that were released or taken back."""
    gone = Reservation.objects.filter(
        order_line__order=order,
        status__in=[Reservation.Status.RELEASED, Reservation.Status.EXPIRED],
    )
    units: Counter[int] = Counter()
    for reservation in gone.order_by("product_id"):
        came_back = (returned or {}).get(reservation.pk, 0)
        units[reservation.product_id] += reservation.quantity - came_back
    return dict(units)


def settle_free(order_id: int) -> Order:
    """Settle an order that costs nothing, without a provider."""
    with transaction.atomic():
        order = lock_order(order_id)
        if order.state == State.PENDING and order.total == 0 and _hand_over(order) is None:
            _mark_paid(order)
    return order


@transaction.atomic
def record_start_declined(payment: Payment, problem: str) -> None:
    """Record that the provider won't open the payment, and alert staff; ``problem`` says why."""
    logs.bind_order(payment.order)
    number = payment.order.number
    log.error("Payment %s of order %s was not accepted: %s", payment.pk, number, problem)
    _is_first_to_record(payment, Payment.State.DECLINED)
    shop_alerts.report_start_declined(payment, problem)


def unsettled_orders() -> list[int]:
    """The ids of orders with a payment whose end we don't know yet, in whatever state they are.

    Cancelled orders are among them: the buyer may still be at the bank. This doesn't go on for
    ever, since the provider lets no payment be open for longer than its ``expires_at``.
    """
    unanswered = Payment.objects.unanswered().order_by("started_at")
    return list(unanswered.values_list("order_id", flat=True).distinct())


# Cancelling


def cancel(order_id: int, *, by: CancelledBy = CancelledBy.STAFF) -> Order:
    """Cancel the order for its buyer or the staff, and return it. A repetition changes nothing.

    Its holds are released. If it was paid, its units go back on sale, and the rest of the money is
    given back. The buyer gets one e-mail.

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
    """Cancel the order unless it is paid or closed; return whether it was cancelled.

    A buyer who is just paying for it gets the money back. Raises Order.DoesNotExist,
    ProviderUnavailable.
    """
    settle(order_id)  # it may be paid already
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
        refunds.owe(payment, left, Decision(Refund.Reason.CANCELLED, cancels=True))
    if not kept:  # else the e-mail about the refund says so
        jobs.queue("send_order_cancelled", order_id=order.pk, by=by)
    _change_state(order, State.CANCELLED, closed_at=Now())


def abandoned_orders() -> list[int]:
    """The ids of pending orders whose holds lapsed a while ago, with no payment under way."""
    return list(_abandoned().order_by("placed_at").values_list("pk", flat=True))


def _abandoned() -> OrderQuerySet:
    # Of each order's own holds. By the index of holds, PostgreSQL would read those of all buyers.
    is_held = Case(
        When(reservation__status=Reservation.Status.HELD, then=Value(True)), default=Value(False)
    )
    alive = OrderLine.objects.alias(is_held=is_held).filter(
        order=OuterRef("pk"), is_held=True, reservation__expires_at__gt=Now() - CLOSE_AFTER
    )
    unanswered = Payment.objects.unanswered().filter(order=OuterRef("pk"))
    return Order.objects.pending().exclude(Exists(alive)).exclude(Exists(unanswered))


def close_abandoned(order_id: int) -> Order:
    """Cancel the order if it is abandoned. A payment that was begun meanwhile keeps it open."""
    with transaction.atomic():
        order = lock_order(order_id)
        if _abandoned().filter(pk=order_id).exists():
            _cancel(order, CancelledBy.STAFF if was_let_go(order) else CancelledBy.TIME)
    return order


def was_let_go(order: Order) -> bool:
    """Whether staff released a hold of the order before its time was over.

    A buyer can't do that without cancelling the order.
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
    """Refund units of a paid order, or an amount, and return the order.

    Give ``units``, the number of units by line (primary key), to refund their price, as far as so
    much of the money is kept. Or give ``amount``, for no units in particular. With neither, all
    that is left is refunded. ``restock`` puts the units back on sale; without it they are written
    off (see the function ``restock``). The last units take the shipping cost along. The order
    becomes REFUNDED when no unit and no money is left; until then units and amounts can be refunded
    in any order.

    ``seen`` is the sum refunded so far that the caller saw (``Order.refunded``), ``seen_units``
    the number of units (``Order.refunded_units``). Give both wherever a request may be repeated:
    a second request finds other numbers, and changes nothing. The buyer reads ``reason``, which is
    for units: an amount is always GOODWILL.

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
            amount = _checked_amount(order, amount)
            refunds.owe_in_all(order, amount, Decision(Refund.Reason.GOODWILL, note))
        else:
            if units is None:
                units = _units_left(order)
            value = _return_units(order, units, restock=restock)
            decision = Decision(reason, note, units=_by_reservation(order, units), restock=restock)
            refunds.owe_in_all(order, value, decision)
        _close_if_nothing_is_left(order)
    return order


def _close_if_nothing_is_left(order: Order) -> None:
    if order.kept() == 0 and not any(line.left for line in order.lines.all()):
        _change_state(order, State.REFUNDED, closed_at=Now())


def _check_seen(order: Order, refunded: Decimal | None, units: int | None) -> None:
    if refunded not in (None, order.refunded()):
        back = money.format_amount(order.refunded(), order.currency)
        raise _changed_error(f"refunds of {back} are on record already")
    if units not in (None, order.refunded_units()):
        taken_off = _units_text(order.refunded_units())
        raise _changed_error(f"{taken_off} taken off the order already")


def _units_text(number: int) -> str:
    return counted(number, "unit is", "units are")


def _changed_error(already: str) -> OrderChanged:
    return OrderChanged(f"Nothing was done: {already}. Open the form again to do more.")


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


def _units_left(order: Order) -> dict[int, int]:
    """All units that aren't refunded yet, by line. Raises InvalidRefund if there are none."""
    units = {line.pk: line.left for line in order.lines.all() if line.left}
    if not units:
        raise InvalidRefund("There are no units left to refund.")
    return units


def _by_reservation(order: Order, units: Mapping[int, int]) -> dict[UUID, int]:
    lines = order.lines.filter(pk__in=units)
    return {line.reservation_id: units[line.pk] for line in lines}


def _return_units(order: Order, units: Mapping[int, int], *, restock: bool) -> Decimal:
    """Return the units to stock if ``restock``, else write them off; return their value."""
    lines = {line.pk: line for line in order.lines.select_related("reservation")}
    _check_units(lines, units, {pk: line.left for pk, line in lines.items()})
    if restock:
        lock_products(lines[pk].reservation.product_id for pk in units)
    value = Decimal(0)
    give_back = return_units if restock else write_off
    for pk, number in sorted(units.items()):
        give_back(lines[pk].reservation_id, number)
        value += lines[pk].unit_price * number
        lines[pk].refunded += number
        lines[pk].save(update_fields=["refunded"])
    if not any(line.left for line in lines.values()):
        value += order.shipping_cost
    return value


def _check_units(
    lines: dict[int, OrderLine], units: Mapping[int, int], left: Mapping[int, int]
) -> None:
    """Raise InvalidRefund unless each line is the order's, and has so many units ``left``."""
    if not units:
        raise InvalidRefund("Say how many units of which line.")
    for pk, number in units.items():
        if pk not in lines:
            raise InvalidRefund("This line isn't one of the order's.")
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise InvalidRefund(f"The units must be a whole number from 1, not {number!r}.")
        if number > left[pk]:
            raise InvalidRefund(f"{number} of {lines[pk].name} are too many: {left[pk]} are left.")


def restock(order_id: int, units: Mapping[int, int], *, seen_units: int | None = None) -> Order:
    """Put refunded units back on sale, and return the order. No money moves.

    ``units`` is the number of units by line (primary key), of those that were refunded and not put
    back on sale (``OrderLine.off_sale``). ``seen_units`` is the number of the order's units that
    were back on sale when the caller looked (``Order.returned_units``): give it wherever a request
    may be repeated.

    Raises InvalidRefund, OrderChanged, Order.DoesNotExist.
    """
    with transaction.atomic():
        order = lock_order(order_id)
        if seen_units not in (None, order.returned_units()):
            raise _changed_error(f"{_units_text(order.returned_units())} back on sale already")
        lines = {line.pk: line for line in order.lines.select_related("reservation")}
        _check_units(lines, units, {pk: line.off_sale for pk, line in lines.items()})
        lock_products(lines[pk].reservation.product_id for pk in units)
        for pk, number in sorted(units.items()):
            _put_on_sale(lines[pk], number)
    return order


def _put_on_sale(line: OrderLine, units: int) -> None:
    """Put back the units written off, then those that a closed order still has as sold."""
    written_off = min(units, line.reservation.written_off)
    if written_off:
        return_written_off(line.reservation_id, written_off)
    if units > written_off:
        return_units(line.reservation_id, units - written_off)


def ship(order_id: int, tracking: str = "") -> Order:
    """Record that the order is on its way, and return it. The buyer gets one e-mail.

    ``tracking`` is the carrier's reference. A repetition with the same one changes nothing.

    Raises NotInThisState unless the order is paid, ValidationError, Order.DoesNotExist.
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
        _change_state(order, State.SHIPPED, shipped_at=Now(), tracking=order.tracking)
        jobs.queue("send_order_shipped", order_id=order.pk)
    return order


# After the restore of a backup (``reconcile``). The caller has locked the order.


def deliver(order: Order, returned: Mapping[UUID, int]) -> Refund.Reason | None:
    """Sell the units of an open order whose payment is on record, all or none.

    ``returned`` are units, by reservation, that later refunds put back on sale: these needn't be
    there now. The order is PAID then, or REFUNDED: then this returns the reason for its buyer, and
    the caller owes the money. No e-mail is sent.
    """
    products = Product.objects.filter(reservations__order_line__order=order).distinct()
    customer_limits.queue_customer(products, order.email_key)
    _take_back_lapsed_of_customer(order.pk)
    too_late = _hand_over(order, returned)
    if too_late is not None:
        close_undelivered(order, State.REFUNDED)
        return too_late
    _change_state(order, State.PAID, paid_at=Now())
    # Units that were held until now are sold in whole.
    sales = {sale.pk: sale for sale in Reservation.objects.filter(pk__in=returned)}
    lock_products(sale.product_id for sale in sales.values())
    for pk, units in returned.items():
        if units > sales[pk].returned:
            return_units(pk, units - sales[pk].returned)
    return None


def close_undelivered(order: Order, state: Order.State) -> None:
    """Close an open order, and release its holds."""
    _give_goods_back(order)
    _change_state(order, state, closed_at=Now())


def repeat_decision(order: Order, decision: Decision, *, has_returned: bool) -> None:
    """Do to the units of a paid order what a refund did that is on record again.

    ``has_returned`` says that its units which went back on sale are there already (``deliver``).
    Raises InvalidRefund if the order doesn't have these units; then nothing was changed.
    """
    if order.state not in (State.PAID, State.SHIPPED):
        return
    if decision.cancels:
        if order.state == State.SHIPPED:
            raise InvalidRefund("It cancelled the order, which has been shipped since.")
        if not has_returned:
            _give_goods_back(order)
        order.lines.update(refunded=F("quantity"))
        _change_state(order, State.CANCELLED, closed_at=Now())
        return
    if decision.units:
        units = _by_line(order, decision.units)
        if has_returned and decision.restock:
            for pk, number in units.items():
                order.lines.filter(pk=pk).update(refunded=F("refunded") + number)
        else:
            _return_units(order, units, restock=decision.restock)
    _close_if_nothing_is_left(order)


def _by_line(order: Order, units: Mapping[UUID, int]) -> dict[int, int]:
    """The units by line. Raises InvalidRefund unless the order has them, not refunded yet."""
    lines = {line.reservation_id: line for line in order.lines.filter(reservation__in=units)}
    if len(lines) < len(units):
        raise InvalidRefund("It is of units of another order.")
    by_line = {lines[reservation].pk: number for reservation, number in units.items()}
    _check_units(
        {line.pk: line for line in lines.values()},
        by_line,
        {line.pk: line.left for line in lines.values()},
    )
    return by_line


# Shared by the steps


def _give_goods_back(order: Order) -> None:
    """Release the order's holds, and return its sold units that aren't refunded yet."""
    lines = list(order.lines.select_related("reservation"))
    lock_products(line.reservation.product_id for line in lines)
    for line in lines:
        reservation = Reservation.objects.get(pk=line.reservation_id)  # under the lock
        if reservation.status == Reservation.Status.SOLD:
            if reservation.kept:
                return_units(reservation.pk, reservation.kept)
        else:
            release(reservation.pk)


def _change_state(order: Order, state: Order.State, **fields: object) -> None:
    """Write the locked order's new state, and the fields that go with it."""
    Order.objects.filter(pk=order.pk).update(state=state, **fields)
    order.state = state
    for name in fields:
        order.__dict__.pop(name, None)  # Django reads it when somebody asks
