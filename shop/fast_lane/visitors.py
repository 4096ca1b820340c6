"""Visitors who have nothing yet: they all see the same page."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from inventory.models import Reservation
from shop.models import Order


class Visitor:
    """A visitor who waits to be known."""

    def __init__(self, buyer: str) -> None:
        self.buyer = buyer
        self.has_something: bool | None = None
        """Whether a page may show something of this visitor's own; None if nobody knows."""


def look_up(_: None, visitors: Sequence[Visitor]) -> None:
    """Find out which of them have something."""
    found = buyers_with_something([visitor.buyer for visitor in visitors])
    for visitor in visitors:
        visitor.has_something = visitor.buyer in found


def buyers_with_something(buyers: Collection[str]) -> set[str]:
    """Those with units in hand, or an order that may still get paid."""
    holds = Reservation.objects.alive().filter(buyer__in=buyers).order_by()
    orders = Order.objects.filter(buyer__in=buyers, state=Order.State.PENDING).order_by()
    return set(
        holds.values_list("buyer")
        .union(orders.values_list("buyer"))
        .values_list("buyer", flat=True)
    )
