"""All that happened to a product's stock: movements and reservations, the newest first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from inventory import strategies
from inventory.exceptions import UnknownStrategy
from inventory.models import Reservation, StockMovement


@dataclass(frozen=True)
class Entry:
    """One change of a product's stock."""

    at: datetime
    what: str
    units: int
    """As stock saw it: less than zero where units were taken."""
    who: str
    why: str
    stock: str = ""
    """Stock before and after, where it was recorded."""
    reservation_id: UUID | None = None


def of_product(product_id: int, *, before: datetime | None = None, most: int = 50) -> list[Entry]:
    """Return the last ``most`` entries, or the last ones from before that instant."""
    movements = StockMovement.objects.filter(product=product_id).select_related("made_by")
    reservations = Reservation.objects.filter(product=product_id)
    if before is not None:
        movements = movements.filter(made_at__lt=before)
        reservations = reservations.filter(created_at__lt=before)
    entries = [_of_movement(each) for each in movements.order_by("-made_at")[:most]]
    entries += [_of_reservation(each) for each in reservations.order_by("-created_at")[:most]]
    entries.sort(key=lambda entry: entry.at, reverse=True)
    return entries[:most]


def _of_movement(movement: StockMovement) -> Entry:
    reason = movement.get_reason_display()
    return Entry(
        at=movement.made_at,
        what="repair" if movement.units == 0 else "received" if movement.units > 0 else "removed",
        units=movement.stock_after - movement.stock_before,
        who=str(movement.made_by) if movement.made_by else "a command or a job",
        why=f"{reason}: {movement.note}" if movement.note else reason,
        stock=f"{movement.stock_before} → {movement.stock_after}",
    )


def _of_reservation(reservation: Reservation) -> Entry:
    what = f"reserved, {reservation.get_status_display()}"
    if reservation.decided_at:
        what += f" {reservation.decided_at:%Y-%m-%d %H:%M:%S} UTC"
    if reservation.returned:
        what += f", {reservation.returned} returned"
    return Entry(
        at=reservation.created_at,
        what=what,
        units=-reservation.quantity,
        who=f"buyer {reservation.buyer[:12]}",
        why=_label(reservation.strategy),
        reservation_id=reservation.pk,
    )


def _label(strategy: str) -> str:
    try:
        return strategies.get(strategy).label
    except UnknownStrategy:  # of a version before
        return strategy
