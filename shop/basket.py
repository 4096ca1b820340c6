"""The basket: a buyer's open holds. What it allows is decided here, for every page that shows it.

Messages of ``inventory`` name the SKU; ``Refused`` says the same to a customer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import F
from django.db.models.functions import Now

from inventory import reservations
from inventory.exceptions import (
    BuyerLimitExceeded,
    IdempotencyKeyReused,
    InsufficientStock,
    InventoryError,
    NotForSale,
    ReservationChanged,
    ReservationEnded,
    TooMuchContention,
)
from inventory.holds import of_buyer
from inventory.models import Product, Reservation
from shop import availability, money, refusals
from shop.exceptions import HoldInOrder
from shop.holds import open_holds, release_hold, shrink_hold


class Refused(Exception):
    """What the buyer wanted can't be had; the message says why, in the words of a shop."""


@dataclass(frozen=True)
class Line:
    """A hold as the basket shows it."""

    hold: Reservation
    seconds_left: int
    """By the database's clock, rounded up: at 0 the database, too, says that it is over."""


@dataclass(frozen=True)
class Basket:
    """What a buyer holds, and what it comes to; amounts in the shop's currency."""

    lines: list[Line]
    ended: list[Reservation]
    """Holds that the buyer has seen here, and whose time is over."""

    @property
    def currency(self) -> str:
        code: str = settings.SHOP_CURRENCY
        return code

    @property
    def seconds_left(self) -> int:
        """Until the first of its holds ends; 0 if there is none."""
        return min((line.seconds_left for line in self.lines), default=0)

    @property
    def subtotal(self) -> Decimal:
        return sum((line.hold.total for line in self.lines), Decimal(0))

    @property
    def shipping(self) -> Decimal:
        cost: Decimal = settings.SHIPPING_COST
        return cost if self.lines else Decimal(0)

    @property
    def total(self) -> Decimal:
        return self.subtotal + self.shipping


def of(buyer: str, *, seen: Iterable[UUID] = ()) -> Basket:
    """The buyer's basket. ``seen`` are holds that the page has shown: it is told which ended."""
    holds: Iterable[Any] = open_holds(buyer).annotate(time_left=F("expires_at") - Now())
    lines = [Line(hold, math.ceil(hold.time_left.total_seconds())) for hold in holds]
    return Basket(lines, _ended(buyer, seen, lines))


def _ended(buyer: str, seen: Iterable[UUID], lines: list[Line]) -> list[Reservation]:
    alive = {line.hold.pk for line in lines}
    gone = [pk for pk in seen if pk not in alive]
    lapsed = Reservation.objects.lapsed()
    taken_back = Reservation.objects.filter(pk__in=gone, status=Reservation.Status.EXPIRED)
    return [
        hold
        for ended in (lapsed, taken_back)
        for hold in ended.of_buyer(buyer).filter(order_line=None).select_related("product")
    ]


def units(buyer: str, product: Product | None = None) -> int:
    """How many units are in the buyer's basket, of all products or of one."""
    if not buyer:
        return 0
    holds = open_holds(buyer)
    return (holds if product is None else holds.filter(product=product)).units()


def find(buyer: str, hold_id: UUID) -> Reservation:
    """One of the buyer's reservations. Raises Reservation.DoesNotExist, also for another's."""
    return Reservation.objects.of_buyer(buyer).select_related("product").get(pk=hold_id)


def reserve(product: Product, quantity: int, *, buyer: str, key: UUID) -> Reservation:
    """Put ``quantity`` units of ``product`` into the buyer's basket, and return the hold.

    ``key`` comes from the form: sent twice, it changes nothing the second time, and returns the
    first one's hold, whatever has become of it.

    Raises Refused; then nothing was changed.
    """
    # The buyer is part of the key: nobody can take another's by guessing or by accident.
    idempotency_key = f"basket {buyer} {key}"
    before = of_buyer(buyer, idempotency_key)
    if before.has_key:
        earlier = Reservation.objects.get(idempotency_key=idempotency_key)
        if earlier.product_id == product.pk:
            return earlier
    _check_limits(before.quantities, [quantity])
    _check_value(before.value + quantity * product.price)
    with in_plain_words(product, buyer), refusals.on_record(product, quantity):
        hold = reservations.reserve(product, quantity, buyer=buyer, idempotency_key=idempotency_key)
    try:
        after = of_buyer(buyer)
        _check_limits(after.quantities)
        _check_value(after.value)
    except Refused:  # another request of this buyer was quicker, and both looked before it
        reservations.release(hold.pk)
        raise
    return hold


def _check_limits(opened: Sequence[int], wanted: Sequence[int] = ()) -> None:
    """Raise Refused if that is too much for a buyer at a time: the quantities of all holds."""
    most, units = settings.MOST_UNITS_PER_BUYER, sum(opened)
    if units + sum(wanted) > most:
        if units:
            raise Refused(f"A basket can hold {most} units at a time, and yours has {units}.")
        raise Refused(f"A basket can hold {most} units at a time.")
    if len(opened) + len(wanted) > settings.MOST_HOLDS_PER_BUYER:
        raise Refused(
            f"Your basket is full: it can hold {settings.MOST_HOLDS_PER_BUYER} reservations at a "
            "time. Check out, or remove one."
        )


def _check_value(goods: Decimal) -> None:
    """Raise Refused if no order could be made of goods at this price (in the shop's currency)."""
    if goods + settings.SHIPPING_COST > money.MOST_TOTAL:
        most = money.formatted(money.MOST_TOTAL, settings.SHOP_CURRENCY)
        raise Refused(f"A basket can come to {most} at most, shipping included.")


def change(hold: Reservation, quantity: int, *, seen: int, key: UUID) -> Reservation:
    """Change how many units of a hold's product are held; return the hold, or the one added.

    Fewer: the rest goes back on sale. More: the difference becomes a hold of its own, with its
    own time and today's price. ``seen`` is the quantity that the buyer saw.

    Raises Refused; then nothing was changed.
    """
    held = _held_now(hold)
    if held.quantity == quantity:
        return held  # as it is, or changed by the first of two equal requests
    if held.quantity != seen:
        raise Refused(_changed(hold.product))
    if quantity > seen:
        return reserve(hold.product, quantity - seen, buyer=hold.buyer, key=key)
    with in_plain_words(hold.product, hold.buyer):
        try:
            return shrink_hold(hold.buyer, hold.pk, seen - quantity, seen=seen)
        except ReservationChanged:
            held = _held_now(hold)
            if held.quantity != quantity:  # else the equal request was quicker
                raise
            return held


def _held_now(hold: Reservation) -> Reservation:
    """The hold as it is by now. Raises Refused if its time is over, or it is in an order."""
    held = open_holds(hold.buyer).filter(pk=hold.pk).first()
    if held is None:
        raise Refused(f"The time of this reservation of {hold.product.name} is over.")
    return held


def remove(hold: Reservation) -> Reservation:
    """Let a hold go, so that others may have its units; again changes nothing. Raises Refused."""
    with in_plain_words(hold.product, hold.buyer):
        return release_hold(hold.buyer, hold.pk)


@contextmanager
def in_plain_words(product: Product, buyer: str) -> Iterator[None]:
    """Turn what ``inventory`` refuses into what this customer understands."""
    try:
        yield
    except InventoryError as error:
        raise Refused(_plain(error, product, buyer)) from error
    except HoldInOrder as error:
        raise Refused(str(error)) from error


def _plain(error: InventoryError, product: Product, buyer: str) -> str:
    name = product.name
    match error:
        case InsufficientStock():
            return _too_few(product, error.requested, buyer)
        case NotForSale():
            return f"{name} is not for sale at the moment."
        case BuyerLimitExceeded(already=0):
            return f"Each customer can have {error.limit} of {name}."
        case BuyerLimitExceeded():
            return (
                f"Each customer can have {error.limit} of {name}, and you have {error.already} "
                "already."
            )
        case IdempotencyKeyReused():
            return "This form was used for something else. Please try once more."
        case TooMuchContention():
            return f"Very many people want {name} right now. Please try once more."
        case ReservationChanged():
            return _changed(product)
        case ReservationEnded(status=Reservation.Status.SOLD):
            return f"{name} has been paid for by now."
        case ReservationEnded():
            return f"The time of this reservation of {name} is over."
    return str(error)


def _too_few(product: Product, wanted: int, buyer: str) -> str:
    """Why there are too few, by what is there now: the page beside these words shows the same."""
    now, name = availability.now(product, buyer), product.name
    if now.available >= wanted:
        return f"Somebody has just let some of {name} go. Please try once more."
    if now.available == 1:
        return f"There is only one {name} left."
    if now.available:
        return f"There are only {now.available} of {name} left."
    if now.may_come_back:
        return f"All {name} are in baskets at the moment. Try again in a few minutes."
    if now.held_by_you:
        return f"You hold all of {name} that are left."
    return f"{name} is sold out."


def _changed(product: Product) -> str:
    return f"Your reservation of {product.name} was changed meanwhile, in another tab perhaps."
