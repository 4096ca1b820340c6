"""From the basket to the bank: an order takes over holds, and its payment is started.

The order of locks, in all of ``shop.orders``: first the order's row (an order that has no row yet
locks its idempotency key), then the customer's queues (``customer_limits``), then the locks of
``inventory.locking``. We call a payment provider only when we have none of these locks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pglock
from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Now

from inventory.exceptions import ReservationEnded
from inventory.models import Product, Reservation
from inventory.reservations import prolong
from shop import money, payments
from shop.address import Address
from shop.exceptions import (
    BasketChanged,
    EmptyBasket,
    HoldInOrder,
    KeyReused,
    LimitPerCustomer,
    NotInThisState,
    OrderTooLarge,
    ShopError,
)
from shop.hold_states import in_order_text, look_up
from shop.models import Order, OrderLine, OrderQuerySet, Payment
from shop.orders import copies, customer_limits, lifecycle

ASK_AGAIN_AFTER = timedelta(minutes=5)  # a provider that didn't accept a payment

# In SQL, since every purchase needs them: Django takes longer to write them than PostgreSQL to
# answer them (measured).
PRODUCTS_OF = """
    SELECT * FROM inventory_product WHERE id IN (
        SELECT product_id FROM inventory_reservation WHERE id = ANY(%(ids)s)
    )
"""
LINES_TO_PAY = """
    SELECT *, statement_timestamp() AS now, EXISTS (
        SELECT FROM shop_payment AS payment WHERE payment.order_id = line.order_id
    ) AS has_payments
    FROM shop_orderline AS line WHERE order_id = %(order)s ORDER BY id
"""
NOTE_REFERENCE = """
    UPDATE shop_payment SET reference = %(reference)s WHERE id = %(payment)s AND reference = ''
"""


def place_order(
    buyer: str,
    reservation_ids: Collection[UUID],
    order: Order,
    *,
    idempotency_key: str,
    seen_total: Decimal | None = None,
) -> Order:
    """Make ``order`` of these holds of the buyer, prolonged for the payment, and return it.

    ``order`` isn't saved yet, such as a form's instance: it has the buyer's entries
    (``Order.CHECKOUT_FIELDS``), and the rest is set here. An address in plain text is a ``street``
    without a town. The prices are those of the holds. ``seen_total`` is the total that the buyer
    saw, shipping included; give it wherever the basket may have changed since. A second request
    with the same ``idempotency_key`` changes nothing: it returns the order of the first, whatever
    else it asks for (see ``is_order_of`` and ``correct_contact``).

    Raises ValidationError, EmptyBasket, BasketChanged, HoldInOrder (with ``order``),
    LimitPerCustomer, OrderTooLarge or KeyReused; then nothing was changed.
    """
    _tidy(order)
    order.buyer = buyer
    order.idempotency_key = idempotency_key
    order.currency = settings.SHOP_CURRENCY
    order.shipping_cost = order.total = settings.SHIPPING_COST
    order.clean_fields()
    ids = set(reservation_ids)
    try:
        return _place_once(order, ids, seen_total)
    except LimitPerCustomer:
        if not _take_back_lapsed(buyer, order.email_key, ids):
            raise
    return _place_once(order, ids, seen_total)


def _tidy(order: Order) -> None:
    """Remove needless space from the entries, and set the e-mail key that limits compare."""
    for name, value in order.typed.items():
        if isinstance(value, str):
            setattr(order, name, value.strip())
    order.street = str(Address(order.street))
    order.email_key = customer_limits.email_key(order.email)


def _take_back_lapsed(buyer: str, email_key: str, ids: set[UUID]) -> int:
    """Take back the customer's lapsed holds of these products, except ``ids``; return how many."""
    products = Product.objects.filter(reservations__in=ids).distinct()
    return customer_limits.take_back_lapsed(
        products.values_list("pk", flat=True), buyer=buyer, email_key=email_key, but=ids
    )


def _place_once(order: Order, ids: set[UUID], seen_total: Decimal | None) -> Order:
    try:
        with transaction.atomic():
            # A double click waits here for the first one, and then fails, at the latest by the
            # constraint that each key, or each hold, is in one order.
            pglock.advisory(f"order {order.idempotency_key}", xact=True).acquire()
            return _place_new(order, ids, seen_total)
    except (ShopError, IntegrityError):
        order.pk = None  # if it had a row, that is gone
        earlier = _earlier_order(order)
        if earlier is None:
            _check_not_ordered(order.buyer, ids)
            raise
        return earlier


def _earlier_order(order: Order) -> Order | None:
    """The order of an earlier request with the same key, if any."""
    earlier = Order.objects.filter(idempotency_key=order.idempotency_key).first()
    if earlier is not None and earlier.buyer != order.buyer:
        raise KeyReused("This form was used for another order: open the checkout again.")
    return earlier


def _check_not_ordered(buyer: str, ids: set[UUID]) -> None:
    """Raise HoldInOrder if one of these holds of the buyer is in an order."""
    lines = OrderLine.objects.filter(reservation__in=ids, reservation__buyer=buyer)
    line = lines.select_related("order").first()
    if line is not None:
        raise HoldInOrder(in_order_text(line.name, line.order), order=line.order)


def _place_new(order: Order, ids: set[UUID], seen_total: Decimal | None) -> Order:
    if not ids:
        raise EmptyBasket("There is nothing in your basket.")
    products = {
        product.pk: product for product in Product.objects.raw(PRODUCTS_OF, {"ids": list(ids)})
    }
    customer_limits.queue_customer(products.values(), order.email_key)
    holds = _take_over(order.buyer, ids)
    customer_limits.check_customer(products.values(), buyer=order.buyer, email_key=order.email_key)
    order.total = order.shipping_cost + sum(hold.total for hold in holds)
    _check_total(order)
    if seen_total is not None and seen_total != order.total:
        raise BasketChanged(
            "Your basket has changed: the total is "
            f"{money.format_amount(order.total, order.currency)} now. Please look at it again."
        )
    order.save(force_insert=True)
    OrderLine.objects.bulk_create(
        OrderLine(
            order=order,
            reservation=hold,
            sku=products[hold.product_id].sku,
            name=products[hold.product_id].name,
            unit_price=hold.unit_price,
            quantity=hold.quantity,
        )
        for hold in sorted(holds, key=lambda hold: hold.created_at)  # as the basket shows them
    )
    return order


def _check_total(order: Order) -> None:
    if order.total > money.MOST_TOTAL:
        most, total = (
            money.format_amount(each, order.currency) for each in (money.MOST_TOTAL, order.total)
        )
        raise OrderTooLarge(
            f"An order can come to {most} at most, and this would be {total}. Take something "
            "out of your basket, and order it afterwards."
        )


def _take_over(buyer: str, ids: set[UUID]) -> list[Reservation]:
    """Lock the holds and prolong them; from here on the basket can't change them."""
    try:
        holds = _prolong_holds(ids)
    except Reservation.DoesNotExist as error:
        raise BasketChanged("Your basket has changed. Please look at it again.") from error
    except ReservationEnded as error:
        gone = [str(now) for now in look_up(buyer, ids) if not now.is_in_basket]
        words = " ".join(gone) or "Your basket has changed."
        raise BasketChanged(f"{words} Please look at your basket again.") from error
    if any(hold.buyer != buyer for hold in holds):
        raise BasketChanged("Your basket has changed. Please look at it again.")
    return holds


def _prolong_holds(ids: Iterable[UUID]) -> list[Reservation]:
    return prolong(ids, hold_for=settings.PAYMENT_TIME, at_most=settings.HOLD_AT_MOST)


def is_order_of(order: Order, reservation_ids: Collection[UUID]) -> bool:
    """Whether the order has these holds, and no others."""
    return set(order.lines.values_list("reservation_id", flat=True)) == set(reservation_ids)


def correct_contact(order_id: int, corrected: Order) -> bool:
    """Copy the buyer's entries (``Order.CHECKOUT_FIELDS``) from ``corrected`` to an unpaid order.

    ``corrected`` is a form's instance, and isn't saved. It comes from the form for corrections, or
    from the checkout's form: a buyer went back in the browser, corrected it and sent it again, and
    ``place_order`` returned the earlier order. Return whether any entry differs.

    Raises NotInThisState if an entry differs and the order isn't open any more, ValidationError,
    LimitPerCustomer; then nothing was changed. Raises Order.DoesNotExist.
    """
    _tidy(corrected)
    order = Order.objects.get(pk=order_id)
    if order.typed == corrected.typed:
        return False
    try:
        _correct(order_id, corrected)
    except LimitPerCustomer:
        ids = set(order.lines.values_list("reservation", flat=True))
        if not _take_back_lapsed(order.buyer, corrected.email_key, ids):
            raise
        _correct(order_id, corrected)
    return True


@transaction.atomic
def _correct(order_id: int, corrected: Order) -> None:
    order = lifecycle.lock_order(order_id)
    if not order.is_open:
        raise NotInThisState(f"Order {order.number} is {order.state_for_buyer()} already.")
    # The limit counts only for another e-mail address. It may have been lowered since the order
    # was placed: that keeps nobody from correcting the street.
    is_another_customer = order.email_key != corrected.email_key
    fields = [*Order.CHECKOUT_FIELDS, "email_key"]
    for name in fields:
        setattr(order, name, getattr(corrected, name))
    order.clean_fields()
    if is_another_customer:
        products = Product.objects.filter(reservations__order_line__order=order).distinct()
        customer_limits.queue_customer(products, order.email_key)
        customer_limits.check_customer(products, buyer=order.buyer, email_key=order.email_key)
    order.save(update_fields=fields)


def unfinished_orders(buyer: str) -> OrderQuerySet:
    """The buyer's orders that wait for their payment: the buyer can pay or cancel them.

    Orders that can't be paid any more are left out, unless a payment for them is under way.
    """
    unanswered = Payment.objects.unanswered().filter(order=OuterRef("pk"))
    waiting = (
        Order.objects.pending().of_buyer(buyer).exclude(~Exists(unanswered), has_lost_a_hold())
    )
    return waiting.prefetch_related("lines")


def has_lost_a_hold() -> Exists:
    """A condition on orders: one of the holds can't be prolonged for a payment any more.

    The hold was taken back or released, or it lapsed and has lasted for HOLD_AT_MOST already.
    ``start_payment`` doesn't accept an order without all its holds.
    """
    ended = ~Q(status=Reservation.Status.HELD)
    over = Q(expires_at__lte=Now(), created_at__lte=Now() - settings.HOLD_AT_MOST)
    return Exists(Reservation.objects.filter(ended | over, order_line__order=OuterRef("pk")))


def start_payment(order_id: int, *, return_url: str) -> str:
    """Return the address at which the buyer pays for the order.

    ``return_url`` is the full address of the order's page. As long as a payment is under way, the
    answer is the same. After a declined payment a new one is started, as long as the holds last.

    Raises NotInThisState if there is nothing to pay any more, ReservationEnded if the holds are
    gone, StartDeclined if the provider won't take this payment at all, of which staff get an alert;
    then nothing is charged. Raises Order.DoesNotExist, ProviderUnavailable.
    """
    try:
        payment = _open_payment(order_id, return_url)
    except _AskFirst:
        lifecycle.settle(order_id)  # the last payment may be declined, or paid
        payment = _open_payment(order_id, return_url, is_settled=True)
    if payment is None:
        lifecycle.settle_free(order_id)
        return return_url
    try:
        started = payments.start(payment)
    except payments.StartDeclined as error:
        lifecycle.record_start_declined(payment, str(error))
        raise
    if payment.reference != started.reference:
        with connection.cursor() as cursor:
            cursor.execute(NOTE_REFERENCE, {"payment": payment.pk, "reference": started.reference})
    return started.url


class _AskFirst(Exception):
    """The order has payments: ask how they ended before another one is opened."""


def _open_payment(order_id: int, return_url: str, *, is_settled: bool = False) -> Payment | None:
    """Return the payment under way, or a new one; None if the order costs nothing."""
    with transaction.atomic():
        order = lifecycle.lock_order(order_id)
        lines: list[Any] = list(OrderLine.objects.raw(LINES_TO_PAY, {"order": order.pk}))
        has_payments = lines[0].has_payments
        if has_payments and not is_settled:
            raise _AskFirst
        if not order.is_open:
            raise NotInThisState(f"Order {order.number} is {order.state_for_buyer()}.")
        _prolong_holds(line.reservation_id for line in lines)
        if order.total == 0:
            return None
        if has_payments:
            under_way = order.payments.unanswered().first()
            if under_way is not None:
                return under_way
            _check_acceptance(order)
        return order.payments.create(
            provider=payments.current_provider().slug,
            amount=order.total,
            currency=order.currency,
            return_url=return_url,
            copy=copies.write_order(order, lines, return_url),
            expires_at=lines[0].now + settings.PAYMENT_TIME,
        )


def _check_acceptance(order: Order) -> None:
    """Raise StartDeclined if the provider has just said that it doesn't accept the payment.

    A buyer who clicks again and again makes no payments without end, each of which we would ask
    about; and staff have time to mend it.
    """
    lately = order.payments.filter(decided_at__gt=Now() - ASK_AGAIN_AFTER)
    if any(payment.was_not_accepted for payment in lately):
        raise payments.StartDeclined("The provider didn't accept this payment a moment ago.")
