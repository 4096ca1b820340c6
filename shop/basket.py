"""The basket: a buyer's open holds. Its rules are here, for every page that shows it.

Errors of ``inventory`` name the SKU; ``BasketError`` says the same to a customer.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

from django.conf import settings
from django.db.models import Case, F, When
from django.db.models.functions import Now

from inventory import reservations
from inventory.exceptions import (
    BuyerLimitExceeded,
    IdempotencyKeyReused,
    InsufficientStock,
    InventoryError,
    NotForSale,
    ReservationChanged,
    TooMuchContention,
    UnknownStrategy,
)
from inventory.models import Product, Reservation, ReservationQuerySet
from inventory.snapshots import (
    HoldsOfBuyer,
    holds_of_buyer,
    products_by_id,
    question_of_holds,
)
from inventory.words import counted
from shop import catalogue, money, network_limits, refusals
from shop.catalogue import Availability
from shop.compiled_queries import compiled
from shop.exceptions import HoldInOrder, LimitPerAddress
from shop.grouped_lines import group_by
from shop.hold_states import HoldState, look_up
from shop.holds import open_holds, release_holds, shrink_holds
from shop.waiting_rooms import slot_for

NO_TIME = timedelta(0)

log = logging.getLogger(__name__)


class BasketError(Exception):
    """The basket can't be changed as the buyer wants; the message says why."""


@dataclass(frozen=True)
class Line:
    """All units of one product at one price in the basket: one hold, or several."""

    holds: list[Reservation]
    """The holds that lapse first come first."""
    seconds_left: int
    """Until the first of them lapses, by the database's clock, rounded up."""
    units_ending: int
    """Units in the holds that lapse then; the other holds last longer."""

    @property
    def hold(self) -> Reservation:
        """The hold that stands for the line: the last to lapse, and the last to be released."""
        return self.holds[-1]

    @property
    def product(self) -> Product:
        return self.hold.product

    @property
    def unit_price(self) -> Decimal:
        return self.hold.unit_price

    @property
    def quantity(self) -> int:
        """Units."""
        return sum(hold.quantity for hold in self.holds)

    @property
    def units_later(self) -> int:
        """Units that are held for longer than ``seconds_left``."""
        return self.quantity - self.units_ending

    @property
    def total(self) -> Decimal:
        return self.unit_price * self.quantity


@dataclass(frozen=True)
class LapsedUnits:
    """Units of a product that lapsed."""

    product: Product
    quantity: int
    holds: list[Reservation]
    """The holds that had these units."""


@dataclass(frozen=True)
class LapsedWithStock:
    """Lapsed units, and their product's availability now."""

    lapsed: LapsedUnits
    stock: Availability

    @property
    def can_be_had(self) -> bool:
        return self.lapsed.product.is_active and self.stock.available >= self.lapsed.quantity


@dataclass(frozen=True)
class Basket:
    """A buyer's open holds, and their cost; amounts in the shop's currency."""

    lines: list[Line]
    lapsed: list[LapsedUnits]
    """Lapsed units that the buyer has seen in the basket."""

    @property
    def currency(self) -> str:
        code: str = settings.SHOP_CURRENCY
        return code

    @property
    def holds(self) -> list[Reservation]:
        return [hold for line in self.lines for hold in line.holds]

    @property
    def units(self) -> int:
        return sum(line.quantity for line in self.lines)

    @property
    def seconds_left(self) -> int:
        """Until the first of the holds lapses; 0 if the basket is empty."""
        return min((line.seconds_left for line in self.lines), default=0)

    @property
    def subtotal(self) -> Decimal:
        return sum((line.total for line in self.lines), Decimal(0))

    @property
    def shipping(self) -> Decimal:
        cost: Decimal = settings.SHIPPING_COST
        return cost if self.lines else Decimal(0)

    @property
    def total(self) -> Decimal:
        return self.subtotal + self.shipping


def basket_of(buyer: str, *, seen: Iterable[UUID] = ()) -> Basket:
    """The buyer's basket. ``seen`` are holds that the page showed, lapsed ones among them."""
    found: list[Any] = list(_holds_with_time(buyer=buyer))
    products = products_by_id({hold.product_id for hold in found})
    for hold in found:
        hold.product = products[hold.product_id]
    alive = [hold for hold in found if hold.time_left > NO_TIME]
    lines = [_line(group) for group in group_by(alive, _product_and_price)]
    maybe_lapsed = {*seen, *(hold.pk for hold in found)} - {hold.pk for hold in alive}
    return Basket(lines, find_lapsed(buyer, maybe_lapsed) if maybe_lapsed else [])


@compiled
def _holds_with_time(buyer: str) -> ReservationQuerySet:
    """The buyer's holds that are in no order, lapsed ones too, each with its ``time_left``.

    Only the index on buyers serves it, as in ``ReservationQuerySet.alive``.
    """
    time_left = Case(When(status=Reservation.Status.HELD, then=F("expires_at") - Now()))
    return (
        Reservation.objects.of_buyer(buyer)
        .annotate(time_left=time_left)
        .filter(
            time_left__isnull=False,
            status__in=[Reservation.Status.HELD, Reservation.Status.SOLD],
            order_line=None,
        )
        .order_by("created_at", "pk")
    )


def _product_and_price(hold: Reservation) -> tuple[int, Decimal]:
    return hold.product_id, hold.unit_price


def _line(holds: list[Any]) -> Line:
    by_end = sorted(holds, key=lambda hold: (hold.time_left, hold.created_at, hold.pk))
    first = by_end[0].time_left
    return Line(
        holds=by_end,
        seconds_left=math.ceil(first.total_seconds()),
        units_ending=sum(hold.quantity for hold in by_end if hold.time_left == first),
    )


def find_lapsed(buyer: str, hold_ids: Collection[UUID]) -> list[LapsedUnits]:
    """Find the lapsed ones among these holds of the buyer; return their units by product."""
    lapsed = [now.hold for now in look_up(buyer, hold_ids) if now.state is HoldState.LAPSED]
    return [
        LapsedUnits(group[0].product, sum(hold.quantity for hold in group), group)
        for group in group_by(lapsed, lambda hold: hold.product_id)
    ]


def lapsed_with_stock(buyer: str, lapsed: Iterable[LapsedUnits]) -> list[LapsedWithStock]:
    """The lapsed units, each with the product's availability to the buyer now."""
    return [
        LapsedWithStock(each, catalogue.availability_now(each.product, buyer, wanted=each.quantity))
        for each in lapsed
    ]


def units_in_basket(buyer: str, product: Product | None = None) -> int:
    """How many units are in the buyer's basket, of all products or of one."""
    if not buyer:
        return 0
    holds = _open_holds(buyer=buyer)
    return sum(hold.quantity for hold in holds if product is None or hold.product_id == product.pk)


@compiled
def _open_holds(buyer: str) -> ReservationQuerySet:
    """All pages ask for the number of units in the basket, which never has many holds."""
    return open_holds(buyer).select_related(None)


def units_of_line(hold: Reservation) -> int:
    """How many units of the hold's product the basket has at the hold's price."""
    return sum(_line_of(hold).values())


def line_text(hold: Reservation) -> str:
    """The hold's line in words, such as ``2 × Lamp``; with the price if there are others of it."""
    line, in_all = units_of_line(hold), units_in_basket(hold.buyer, hold.product)
    words = f"{line} × {hold.product.name}"
    if line == in_all:
        return words
    price = money.format_amount(hold.unit_price, settings.SHOP_CURRENCY)
    return f"{words} at {price} ({in_all} in all)"


def find_hold(buyer: str, hold_id: UUID) -> Reservation:
    """Return a reservation of this buyer. Raises Reservation.DoesNotExist."""
    return Reservation.objects.of_buyer(buyer).select_related("product").get(pk=hold_id)


def reserve(product: Product, quantity: int, *, buyer: str, key: UUID, address: str) -> Reservation:
    """Put ``quantity`` units of ``product`` into the buyer's basket, and return the hold.

    ``key`` comes from the form. If the form is sent twice, the second request changes nothing: it
    returns the hold of the first, in whatever state it is. ``address`` is the buyer's network
    address.

    Raises BasketError; then nothing was changed.
    """
    once = idempotency_key(buyer, key)
    with network_limits.begin(address, quantity, question_of_holds({buyer: once})) as begun:
        attempt, [holds] = begun
        return _reserve(attempt, product, buyer, once, holds[buyer])


def reserve_by_slug(
    slug: str, quantity: int, *, buyer: str, key: UUID, address: str
) -> Reservation:
    """The same for the shop's product with this slug, which costs no round trip more.

    Raises Product.DoesNotExist, BasketError, ProductBusy; then nothing was changed.
    """
    once = idempotency_key(buyer, key)
    with network_limits.begin(
        address, quantity, catalogue.question_of_product(slug), question_of_holds({buyer: once})
    ) as (attempt, [found, holds]):
        if not found:
            raise Product.DoesNotExist(f"There is no product “{slug}”.")
        [product] = found
        with slot_for(product):
            return _reserve(attempt, product, buyer, once, holds[buyer])


def _reserve(
    attempt: network_limits.Attempt, product: Product, buyer: str, once: str, before: HoldsOfBuyer
) -> Reservation:
    """Reserve the units of the attempt. ``before`` are the buyer's holds when it began."""
    if before.has_key:
        earlier = Reservation.objects.get(idempotency_key=once)
        if earlier.product_id == product.pk:
            return earlier
    check_limits(before, attempt.quantity, product.price)
    with translate_errors(product, buyer), refusals.record_refusal(product):
        hold = attempt.reserve(product, buyer=buyer, idempotency_key=once)
    try:
        check_limits(holds_of_buyer(buyer))
    except (
        BasketError
    ):  # two requests of this buyer at once, and each checked before the other took its units
        reservations.release(hold.pk)
        raise
    return hold


def idempotency_key(buyer: str, key: UUID) -> str:
    """The idempotency key of a form's key.

    The buyer is part of it: nobody can take another's by guessing or by accident.
    """
    return f"basket {buyer} {key}"


def reserve_again(buyer: str, lapsed: LapsedUnits, *, key: UUID, address: str) -> Reservation:
    """Reserve the lapsed units again, at today's price, and return the new hold.

    ``key`` and ``address`` are as in ``reserve``. Raises BasketError.
    """
    ids = sorted(hold.pk.hex for hold in lapsed.holds)
    reservations.expire(
        UUID(each) for each in ids
    )  # units that are held again aren't shown as lapsed
    key = uuid5(key, " ".join(ids))
    return reserve(lapsed.product, lapsed.quantity, buyer=buyer, key=key, address=address)


def check_limits(holds: HoldsOfBuyer, more: int = 0, price: Decimal = Decimal(0)) -> None:
    """Raise BasketError if a buyer can't have these holds and ``more`` units at a time.

    ``price`` is the price of a unit more, in the shop's currency.
    """
    most, units = settings.MOST_UNITS_PER_BUYER, sum(holds.quantities)
    if units + more > most:
        if units:
            raise BasketError(
                f"You can reserve {counted(most, 'unit')} at a time, and have {units} already, "
                "those of unpaid orders included."
            )
        raise BasketError(f"You can reserve {counted(most, 'unit')} at a time.")
    most = settings.MOST_HOLDS_PER_BUYER
    if len(holds.quantities) + (1 if more else 0) > most:
        raise BasketError(
            f"Your basket is full: it can hold {counted(most, 'reservation')} at a time. "
            "Check out, or remove one."
        )
    if holds.value + more * price + settings.SHIPPING_COST > money.MOST_TOTAL:
        limit = money.format_amount(money.MOST_TOTAL, settings.SHOP_CURRENCY)
        raise BasketError(f"A basket can come to {limit} at most, shipping included.")


def change(
    hold: Reservation,
    quantity: int,
    *,
    seen: int,
    key: UUID,
    address: str,
    shown: Collection[UUID] = (),
) -> Reservation | None:
    """Change the number of units in a line of the basket; return the hold that was added, if any.

    ``hold`` is any hold of the line. If the buyer wants fewer units, those that lapse first are
    released: the buyer keeps those that last longest. If the buyer wants more, the difference
    becomes a hold of its own, with its own time and today's price.

    ``seen`` is the number of units that the buyer saw in the line, and ``shown`` are the holds
    that had them. A hold never grows, so these two never occur together again: an old form
    changes nothing.

    Raises BasketError; then nothing was changed.
    """
    line = _line_of(hold)
    if sum(line.values()) == quantity:
        return None  # it is so already, perhaps by the first of two equal requests
    if not _is_as_seen(line, hold, seen, shown):
        raise BasketError(_change_text(hold, line, shown))
    if quantity > seen:
        return reserve(hold.product, quantity - seen, buyer=hold.buyer, key=key, address=address)
    with translate_errors(hold.product, hold.buyer):
        try:
            shrink_holds(hold.buyer, line, seen - quantity, seen=seen)
        except ReservationChanged as error:
            line = _line_of(hold)
            if sum(line.values()) != quantity:  # else an equal request was quicker
                raise BasketError(_change_text(hold, line, shown)) from error
    return None


def _line_of(hold: Reservation) -> dict[UUID, int]:
    """The hold's line as it is now: the units of each hold in it."""
    same = open_holds(hold.buyer, hold.product_id).filter(unit_price=hold.unit_price)
    return dict(same.values_list("pk", "quantity"))


def _is_as_seen(
    line: dict[UUID, int], hold: Reservation, seen: int, shown: Collection[UUID]
) -> bool:
    same_holds = line.keys() == set(shown) if shown else hold.pk in line
    return same_holds and sum(line.values()) == seen


def _change_text(hold: Reservation, line: dict[UUID, int], shown: Collection[UUID]) -> str:
    """The reason why this line can't be changed, by the state of its holds."""
    gone = [now for now in look_up(hold.buyer, {hold.pk, *shown}) if not now.is_in_basket]
    if gone and not line:
        return " ".join(map(str, gone))
    words = " ".join(map(str, gone)) or _changed_text(hold.product)
    return f"{words} You hold {line_text(hold)} now."


def remove(hold: Reservation, *, shown: Collection[UUID] = ()) -> set[UUID]:
    """Release a line, so that others may have its units; return the ids of the holds meant.

    ``shown`` are the holds that the buyer saw in the line; without them, all holds of the line are
    meant. Holds that are in an order stay there. A repetition changes nothing.
    """
    line = _line_of(hold)
    meant = {hold.pk, *(shown or (line if hold.pk in line else ()))}
    of_product = Reservation.objects.of_buyer(hold.buyer, hold.product_id)
    release_holds(hold.buyer, of_product.filter(pk__in=meant).values_list("pk", flat=True))
    return meant


@contextmanager
def translate_errors(product: Product, buyer: str) -> Iterator[None]:
    """Turn errors of ``inventory`` into a BasketError that this customer understands."""
    try:
        yield
    except InventoryError as error:
        raise BasketError(_plain_text(error, product, buyer)) from error
    except (HoldInOrder, LimitPerAddress) as error:
        raise BasketError(str(error)) from error


def _plain_text(error: InventoryError, product: Product, buyer: str) -> str:
    name = product.name
    match error:
        case InsufficientStock():
            return too_few_text(product, error.requested, buyer)
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
            return _changed_text(product)
        case UnknownStrategy():
            log.error(
                "%s can't be reserved. %s", product.sku, error, extra={"product": product.sku}
            )
            return f"{name} can’t be reserved at the moment."
    return str(error)


def too_few_text(product: Product, wanted: int, buyer: str = "") -> str:
    """The reason why there are too few units, by the numbers that the page shows, too."""
    now, name = catalogue.availability_now(product, buyer, wanted=wanted), product.name
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


def _changed_text(product: Product) -> str:
    return f"Your reservation of {product.name} was changed meanwhile, in another tab perhaps."
