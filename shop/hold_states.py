"""The states of a buyer's holds, by the database's clock, and sentences that tell them."""

from __future__ import annotations

import enum
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from inventory.models import Reservation
from inventory.snapshots import products_by_id
from shop.models import Order

# In SQL, since the page after each reservation needs it: Django took longer to write the statement
# than PostgreSQL to answer it (measured).
LOOK_UP = """
    SELECT *,
        expires_at <= statement_timestamp() AS has_lapsed,
        decided_at < expires_at AS was_removed,
        (SELECT order_id FROM shop_orderline WHERE reservation_id = hold.id) AS order_id
    FROM inventory_reservation AS hold
    WHERE buyer = %(buyer)s AND id = ANY(%(ids)s::uuid[])
    ORDER BY created_at, id
"""


class HoldState(enum.Enum):
    """The place of a hold's units now."""

    IN_BASKET = enum.auto()
    LAPSED = enum.auto()
    """Its time is over; its units may or may not be taken back yet."""
    REMOVED = enum.auto()
    """The buyer or the staff released it before its time was over."""
    IN_ORDER = enum.auto()
    """It is a line of an order, whatever state that order is in."""
    SOLD = enum.auto()


@dataclass(frozen=True)
class HoldNow:
    """A hold and its state now."""

    hold: Reservation
    """With its product."""
    state: HoldState
    order: Order | None = None
    """The order that it is in."""

    @property
    def is_in_basket(self) -> bool:
        return self.state is HoldState.IN_BASKET

    @property
    def units(self) -> str:
        """Such as ``2 × Lamp``."""
        return f"{self.hold.quantity} × {self.hold.product.name}"

    def __str__(self) -> str:
        """A sentence that says where the units are."""
        one = self.hold.quantity == 1
        match self.state:
            case HoldState.IN_BASKET:
                return f"You hold {self.units}."
            case HoldState.LAPSED:
                return f"Your time for {self.hold.product.name if one else self.units} is over."
            case HoldState.REMOVED:
                return f"{self.units} {'was' if one else 'were'} removed from your basket."
            case HoldState.SOLD:
                return f"{self.hold.product.name} has been paid for."
        assert self.order is not None
        return in_order_text(self.hold.product.name, self.order)


def in_order_text(name: str, order: Order) -> str:
    """A sentence that says which order something is in, or was in."""
    if order.state in (Order.State.CANCELLED, Order.State.REFUNDED):
        return f"{name} was in your order {order.number}, which is {order.state_for_buyer()}."
    return f"{name} is in your order {order.number} already."


def look_up(buyer: str, hold_ids: Collection[UUID]) -> list[HoldNow]:
    """Look up these holds of the buyer, the oldest first; other buyers' holds are left out."""
    sought = {"buyer": buyer, "ids": list(hold_ids)}
    found: list[Any] = list(Reservation.objects.raw(LOOK_UP, sought)) if hold_ids else []
    products = products_by_id({hold.product_id for hold in found})
    order_ids = {hold.order_id for hold in found if hold.order_id}
    orders = Order.objects.in_bulk(order_ids) if order_ids else {}
    for hold in found:
        hold.product = products[hold.product_id]
    return [HoldNow(hold, _state_of(hold), orders.get(hold.order_id)) for hold in found]


def _state_of(hold: Any) -> HoldState:
    if hold.order_id:
        return HoldState.IN_ORDER
    match hold.status:
        case Reservation.Status.SOLD:
            return HoldState.SOLD
        case Reservation.Status.HELD:
            return HoldState.LAPSED if hold.has_lapsed else HoldState.IN_BASKET
        case Reservation.Status.RELEASED if hold.was_removed:
            return HoldState.REMOVED
    return HoldState.LAPSED
