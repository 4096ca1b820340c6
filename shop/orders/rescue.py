"""After an oversell: the promises of units that don't exist, and withdrawing them.

A promise is a hold or a sale that isn't shipped yet. The last promises are withdrawn first, so that
the first buyers keep their units. Each is withdrawn by itself, and only as far as units are missing
at that moment. The buyer gets an e-mail, except for a hold in a basket, whose buyer has given no
address yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from django.db import transaction
from django.db.models import F, Q

from inventory import alerts, monitor, reservations
from inventory.locking import lock_product
from inventory.models import Product, Reservation
from shop import holds
from shop.exceptions import NotInThisState, OrderChanged, ShopError
from shop.models import Order, OrderLine, Refund
from shop.money import format_amount
from shop.orders import lifecycle

MOST = 100  # promises to look at


class NothingMissing(ShopError):
    """No more units are promised than exist."""


@dataclass(frozen=True)
class Promise:
    """Units that a buyer was promised, and that can still be withdrawn."""

    reservation: Reservation
    order: Order | None
    """None for a hold in a basket, or for a sale without an order."""
    units: int
    """The units that the buyer has of it."""
    is_enough: bool
    """Whether it is among the last promises, which together make up for the missing units."""

    @property
    def consequence(self) -> str:
        """The consequence of withdrawing it, in words."""
        if self.reservation.status == Reservation.Status.HELD:
            return "release the hold" if self.order is None else "cancel the unpaid order"
        return "return the units" if self.order is None else "refund, and e-mail the buyer"


@dataclass(frozen=True)
class Oversell:
    """The units of a product that are promised and don't exist, and the promises."""

    missing: int
    """Units."""
    drift: int
    promises: list[Promise]
    """The last ones first; at most ``MOST``."""

    @property
    def can_be_made_up(self) -> bool:
        return sum(promise.units for promise in self.promises) >= self.missing


def find_oversell(product: Product) -> Oversell:
    """Return the missing units of the product, and the promises that can be withdrawn."""
    state = monitor.state_of(product.pk)
    promises: list[Promise] = []
    left = state.oversold
    for reservation in _not_sent_yet(product)[:MOST]:
        line = _line_of(reservation)
        promises.append(
            Promise(
                reservation=reservation,
                order=line.order if line else None,
                units=reservation.kept,
                is_enough=left > 0,
            )
        )
        left -= reservation.kept
    return Oversell(missing=state.oversold, drift=state.drift, promises=promises)


def _not_sent_yet(product: Product) -> list[Reservation]:
    """Holds, and sales that aren't shipped yet; the last ones first."""
    unsent = Q(order_line=None) | Q(order_line__order__state__in=["PENDING", "PAID"])
    has_units = Q(quantity__gt=F("returned") + F("written_off"))
    return list(
        Reservation.objects.filter(unsent, has_units, product=product, status__in=["HELD", "SOLD"])
        .select_related("order_line__order")
        .order_by("-created_at", "-pk")[:MOST]
    )


def _line_of(reservation: Reservation) -> OrderLine | None:
    return getattr(reservation, "order_line", None)


def withdraw(reservation_id: UUID, *, seen: int) -> str:
    """Withdraw one promise, at most as far as units are missing; return in words what was done.

    ``seen`` is the number of units that the buyer had of it when the caller looked: a repetition
    finds another number, and changes nothing. An unpaid order is cancelled with all that is in it,
    and a hold is released in whole. Of a paid order only the missing units are refunded.

    Raises NothingMissing, OrderChanged, NotInThisState, HoldInOrder, ProviderUnavailable or an
    InventoryError; then nothing was changed. Raises Reservation.DoesNotExist.
    """
    reservation = Reservation.objects.select_related("product", "order_line__order").get(
        pk=reservation_id
    )
    product, line = reservation.product, _line_of(reservation)
    _units_to_withdraw(reservation, seen)
    if reservation.status == Reservation.Status.SOLD:
        done = _refund(line, seen) if line else _return(reservation, seen)
    else:
        done = _cancel(line.order) if line else _release(reservation)
    alerts.refresh_open(product.pk)
    return done


def _units_to_withdraw(reservation: Reservation, seen: int) -> int:
    """The number of units to withdraw. It is exact if the caller has locked the product."""
    missing = monitor.state_of(reservation.product_id).oversold
    if not missing:
        raise NothingMissing("No units are missing any more: this was left as it is.")
    if reservation.status not in ("HELD", "SOLD") or reservation.kept != seen:
        raise OrderChanged("This has changed since you looked: look again.")
    return min(missing, seen)


def _refund(line: OrderLine, seen: int) -> str:
    with transaction.atomic():
        order = lifecycle.lock_order(line.order_id)
        if order.state != Order.State.PAID:
            raise NotInThisState(
                f"Order {order.number} is {order.get_state_display()} already: "
                "it was left as it is."
            )
        lock_product(line.reservation.product_id)
        units = _units_to_withdraw(Reservation.objects.get(pk=line.reservation_id), seen)
        before = order.refunded()
        order = lifecycle.refund(
            order.pk, units={line.pk: units}, restock=True, reason=Refund.Reason.OVERSOLD
        )
        back = format_amount(order.refunded() - before, order.currency)
    return (
        f"{units} × {line.name} of order {order.number}: {back} go back, and the buyer gets an "
        "e-mail."
    )


def _return(reservation: Reservation, seen: int) -> str:
    with transaction.atomic():
        lock_product(reservation.product_id)
        units = _units_to_withdraw(Reservation.objects.get(pk=reservation.pk), seen)
        reservations.return_units(reservation.pk, units)
    return f"{units} × {reservation.product}, sold without an order: returned to stock."


def _cancel(order: Order) -> str:
    if not lifecycle.cancel_unpaid(order.pk):
        raise OrderChanged(f"Order {order.number} is paid or closed already: look again.")
    return f"Order {order.number} is cancelled, and the buyer gets an e-mail."


def _release(hold: Reservation) -> str:
    holds.release_hold(hold.buyer, hold.pk)
    return f"{hold.quantity} × {hold.product} in a basket: released."
