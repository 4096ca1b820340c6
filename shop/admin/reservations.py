"""Reservations, with their orders, which only the shop knows."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.decorators import display

from inventory.admin.base import EXPECTED_ERRORS, link_to
from inventory.admin.reservations import ReservationAdmin
from inventory.models import Reservation
from shop.exceptions import HoldInOrder
from shop.holds import release_hold

admin.site.unregister(Reservation)


@admin.register(Reservation)
class ReservationWithOrderAdmin(ReservationAdmin):
    list_display = (*ReservationAdmin.list_display, "order_link")
    fields = (*ReservationAdmin.fields, "order_link")
    readonly_fields = (*ReservationAdmin.readonly_fields, "order_link")
    expected_errors = (*EXPECTED_ERRORS, HoldInOrder)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Reservation]:
        return super().get_queryset(request).select_related("order_line__order")

    @display(description="Order")
    def order_link(self, reservation: Any) -> str | None:
        if not hasattr(reservation, "order_line"):
            return None
        order = reservation.order_line.order
        return link_to(order, order.number)

    def offers_action(self, action: str, obj: Any) -> bool:
        return super().offers_action(action, obj) and not hasattr(obj, "order_line")

    def release(self, hold: Reservation) -> str:
        """Release a hold, unless it is in an order: an order without its holds would be empty."""
        try:
            release_hold(hold.buyer, hold.pk)
        except HoldInOrder as error:
            if error.order.is_open:
                raise HoldInOrder(
                    f"It is in order {error.order.number}, which waits for its payment. Cancel "
                    "the order: that puts its units back on sale, and sends the buyer an e-mail.",
                    order=error.order,
                ) from error
        return super().release(hold)
