"""All that happened to a product's stock: movements and reservations, the newest first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from django.db.models import Q
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from inventory import strategies
from inventory.models import Reservation, StockMovement

NO_MOVEMENT, NO_RESERVATION = 0, UUID(int=0)


class Position(NamedTuple):
    """The position of an entry. Entries may share an instant: one statement serves many buyers."""

    at: datetime
    movement_id: int = NO_MOVEMENT
    reservation_id: UUID = NO_RESERVATION

    def __str__(self) -> str:
        return f"{self.at.isoformat()}_{self.movement_id}_{self.reservation_id}"


def read_position(text: str) -> Position | None:
    """Read a position from its text; None if the text isn't one."""
    try:
        at, movement_id, reservation_id = text.split("_")
        instant = parse_datetime(at)
        if instant is None or instant.tzinfo is None:
            return None
        return Position(instant, int(movement_id), UUID(reservation_id))
    except ValueError:
        return None


@dataclass(frozen=True)
class Entry:
    """One change of a product's stock."""

    position: Position
    event: str
    units: int
    """The change of stock: below zero if units were taken."""
    actor: str
    reason_text: str
    stock: str = ""
    """Stock before and after, if it was recorded."""

    @property
    def at(self) -> datetime:
        return self.position.at

    @property
    def reservation_id(self) -> UUID | None:
        return None if self.position.movement_id else self.position.reservation_id


def entries_of(product_id: int, *, before: Position | None = None, limit: int = 50) -> list[Entry]:
    """Return the last ``limit`` entries, or the last ones before that position."""
    movements = StockMovement.objects.filter(product=product_id).select_related("made_by")
    reservations = Reservation.objects.filter(product=product_id)
    if before is not None:
        movements = movements.filter(
            Q(made_at__lt=before.at) | Q(pk__lt=before.movement_id), made_at__lte=before.at
        )
        reservations = reservations.filter(created_at__lte=before.at)
        if not before.movement_id:  # a movement comes before the reservations of its instant
            reservations = reservations.filter(
                Q(created_at__lt=before.at) | Q(pk__lt=before.reservation_id)
            )
    entries = [_of_movement(each) for each in movements.order_by("-made_at", "-pk")[:limit]]
    newest = reservations.order_by("-created_at", "-pk")[:limit]
    entries += [_of_reservation(each) for each in newest]
    entries.sort(key=lambda entry: entry.position, reverse=True)
    return entries[:limit]


def _of_movement(movement: StockMovement) -> Entry:
    reason = movement.get_reason_display()
    return Entry(
        position=Position(movement.made_at, movement_id=movement.pk),
        event="repair" if movement.units == 0 else "received" if movement.units > 0 else "removed",
        units=movement.stock_after - movement.stock_before,
        actor=str(movement.made_by) if movement.made_by else "a command or a job",
        reason_text=f"{reason}: {movement.note}" if movement.note else reason,
        stock=f"{movement.stock_before} → {movement.stock_after}",
    )


def _of_reservation(reservation: Reservation) -> Entry:
    event = f"reserved, {reservation.get_status_display()}"
    if reservation.decided_at:
        event += f" {timezone.localtime(reservation.decided_at):%Y-%m-%d %H:%M:%S}"
    if reservation.returned:
        event += f", {reservation.returned} returned"
    if reservation.written_off:
        event += f", {reservation.written_off} written off"
    return Entry(
        position=Position(reservation.created_at, reservation_id=reservation.pk),
        event=event,
        units=-reservation.quantity,
        actor=f"buyer {reservation.buyer[:12]}",
        reason_text=strategies.label_of(reservation.strategy),
    )
