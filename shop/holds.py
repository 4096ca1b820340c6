"""A buyer's holds that are in no order yet: the basket. It can't change holds that are in an order.

We lock a hold before we look whether it is in an order. An order locks the holds that it takes
over (``checkout.place_order``). So the second request sees what the first one did.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from uuid import UUID

from django.db import transaction
from django.db.models import F

from inventory import reservations
from inventory.exceptions import InvalidQuantity, ReservationChanged
from inventory.locking import lock_product, lock_products, lock_reservations
from inventory.models import Product, Reservation, ReservationQuerySet
from shop.exceptions import HoldInOrder
from shop.hold_states import in_order_text
from shop.models import OrderLine


def open_holds(buyer: str, product: Product | int | F | None = None) -> ReservationQuerySet:
    """The buyer's basket, or a product's part of it: holds alive, in no order, the oldest first."""
    return (
        Reservation.objects.alive()
        .of_buyer(buyer, product)
        .filter(order_line=None)
        .select_related("product")
        .order_by("created_at", "pk")
    )


def shrink_holds(buyer: str, hold_ids: Collection[UUID], units: int, *, seen: int) -> None:
    """Release ``units`` of these holds of one product, beginning with the holds that lapse first.

    All or nothing. ``seen`` is the number of units that the caller saw in them: a repeated
    request finds another number, and changes nothing.

    Raises ReservationChanged if the buyer's basket doesn't have exactly ``seen`` units in these
    holds, InvalidQuantity for more units than that.
    """
    with transaction.atomic():
        _lock(hold_ids)
        holds = list(open_holds(buyer).filter(pk__in=hold_ids).order_by("expires_at", "pk"))
        held = sum(hold.quantity for hold in holds)
        if held != seen:
            raise ReservationChanged(f"You hold {held} now, not {seen}.")
        if units > held:
            raise InvalidQuantity(f"{units} is more than the {held} held.")
        for hold in holds:
            let_go = min(units, hold.quantity)
            if let_go:
                shrink_hold(buyer, hold.pk, let_go)
            units -= let_go


def release_holds(buyer: str, hold_ids: Collection[UUID]) -> None:
    """Take these holds of one product out of the buyer's basket, as far as they are in it."""
    with transaction.atomic():
        _lock(hold_ids)
        held = Reservation.objects.held().of_buyer(buyer).filter(order_line=None)
        for hold in held.filter(pk__in=hold_ids):
            release_hold(buyer, hold.pk)


def release_unordered(hold_ids: Collection[UUID]) -> list[Reservation]:
    """Release these holds of one product, of any buyers, unless they are in an order.

    Returns the released holds as they were before.
    """
    with transaction.atomic():
        _lock(hold_ids)
        unordered = Reservation.objects.held().filter(pk__in=hold_ids, order_line=None)
        return reservations.release_all(list(unordered.values_list("pk", flat=True)))


def _lock(hold_ids: Collection[UUID]) -> None:
    """Lock the holds of one product in the order of locks, so that none gets into an order."""
    product_ids = Reservation.objects.filter(pk__in=hold_ids).values_list("product_id", flat=True)
    lock_products(product_ids)
    lock_reservations(hold_ids)


def shrink_hold(buyer: str, hold_id: UUID, units: int, *, seen: int | None = None) -> Reservation:
    """Release ``units`` of a hold in the buyer's basket; see ``inventory.reservations.shrink``.

    Raises HoldInOrder, Reservation.DoesNotExist if it isn't the buyer's, or an error of ``shrink``.
    """
    with _in_basket(buyer, hold_id):
        return reservations.shrink(hold_id, units, seen=seen)


def release_hold(buyer: str, hold_id: UUID) -> Reservation:
    """Take a hold out of the buyer's basket. A repetition changes nothing.

    Raises HoldInOrder, Reservation.DoesNotExist if it isn't the buyer's.
    """
    with _in_basket(buyer, hold_id):
        return reservations.release(hold_id)


@contextmanager
def _in_basket(buyer: str, hold_id: UUID) -> Iterator[None]:
    """Open a transaction during which no order can take the hold over."""
    with transaction.atomic():
        lock_product(Reservation.objects.of_buyer(buyer).get(pk=hold_id).product_id)
        lock_reservations([hold_id])
        line = OrderLine.objects.filter(reservation=hold_id).select_related("order").first()
        if line is not None:
            raise HoldInOrder(in_order_text(line.name, line.order), order=line.order)
        yield
