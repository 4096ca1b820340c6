"""The states of a buyer's holds, by the database's clock, and sentences that tell them."""

from __future__ import annotations

import enum
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import BooleanField, ExpressionWrapper, F, Q
from django.db.models.functions import Now

from inventory.models import Reservation
from shop.models import Order


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
    found: Collection[Any] = (
        Reservation.objects.of_buyer(buyer)
        .filter(pk__in=hold_ids)
        .select_related("product", "order_line__order")
        .annotate(
            has_lapsed=_is_true(Q(expires_at__lte=Now())),
            was_removed=_is_true(Q(decided_at__lt=F("expires_at"))),
        )
        .order_by("created_at", "pk")
    )
    return [HoldNow(hold, _state_of(hold), _order_of(hold)) for hold in found]


def _is_true(condition: Q) -> ExpressionWrapper[Any]:
    return ExpressionWrapper(condition, output_field=BooleanField())


def _order_of(hold: Any) -> Order | None:
    return hold.order_line.order if hasattr(hold, "order_line") else None


def _state_of(hold: Any) -> HoldState:
    if _order_of(hold):
        return HoldState.IN_ORDER
    match hold.status:
        case Reservation.Status.SOLD:
            return HoldState.SOLD
        case Reservation.Status.HELD:
            return HoldState.LAPSED if hold.has_lapsed else HoldState.IN_BASKET
        case Reservation.Status.RELEASED if hold.was_removed:
            return HoldState.REMOVED
    return HoldState.LAPSED
