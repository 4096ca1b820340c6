"""A buyer's holds that are in no order yet: the basket. What is in an order is beyond its reach.

A hold is locked before we look whether it is in an order, and an order locks the holds that it
takes over (``checkout.place_order``): whoever comes second sees what the first one did.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from django.db import transaction

from inventory import reservations
from inventory.locking import lock_product, lock_reservations
from inventory.models import Reservation, ReservationQuerySet
from shop.exceptions import HoldInOrder
from shop.models import OrderLine


def open_holds(buyer: str) -> ReservationQuerySet:
    """The buyer's basket: holds that are alive and in no order, the oldest first."""
    return (
        Reservation.objects.alive()
        .of_buyer(buyer)
        .filter(order_line=None)
        .select_related("product")
        .order_by("created_at", "pk")
    )


def shrink_hold(buyer: str, hold_id: UUID, units: int, *, seen: int | None = None) -> Reservation:
    """Let ``units`` of a hold in the buyer's basket go; see ``inventory.reservations.shrink``.

    Raises HoldInOrder, Reservation.DoesNotExist if it isn't the buyer's, and what that raises.
    """
    with _in_basket(buyer, hold_id):
        return reservations.shrink(hold_id, units, seen=seen)


def release_hold(buyer: str, hold_id: UUID) -> Reservation:
    """Take a hold out of the buyer's basket; doing so again changes nothing.

    Raises HoldInOrder, Reservation.DoesNotExist if it isn't the buyer's.
    """
    with _in_basket(buyer, hold_id):
        return reservations.release(hold_id)


@contextmanager
def _in_basket(buyer: str, hold_id: UUID) -> Iterator[None]:
    """A transaction in which the hold stays out of any order."""
    with transaction.atomic():
        lock_product(Reservation.objects.of_buyer(buyer).get(pk=hold_id).product_id)
        lock_reservations([hold_id])
        line = OrderLine.objects.filter(reservation=hold_id).select_related("order").first()
        if line is not None:
            raise HoldInOrder(
                f"{line.name} is in your order {line.order.number} already.", order=line.order
            )
        yield
