"""Reservations: read-only, with an action that releases a hold."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from unfold.contrib.filters.admin import ChoicesRadioFilter, RadioFilter
from unfold.decorators import action, display

from inventory import reservations
from inventory.admin.base import (
    EXPECTED_ERRORS,
    NothingChanged,
    OffersPossibleActions,
    ProductRecordAdmin,
    ask_then_run,
    ask_then_run_for_rows,
    object_or_404,
    shortened,
)
from inventory.admin.filters import PeriodFilter, ShelfFilter
from inventory.models import Product, Reservation
from inventory.words import counted

Status = Reservation.Status
STATUS = {
    Status.HELD: "info",
    Status.SOLD: "success",
    Status.RELEASED: "warning",
    Status.EXPIRED: "warning",
}


class LapseFilter(RadioFilter):
    title = "end of the hold"
    parameter_name = "lapse"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("soon", "Within five minutes"), ("over", "Lapsed, not taken back yet")]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[Reservation]
    ) -> QuerySet[Reservation]:
        if self.value() == "soon":
            soon = Now() + timedelta(minutes=5)
            return queryset.filter(status="HELD", expires_at__gt=Now(), expires_at__lte=soon)
        if self.value() == "over":
            return queryset.filter(status="HELD", expires_at__lte=Now())
        return queryset


@admin.register(Reservation)
class ReservationAdmin(OffersPossibleActions, ProductRecordAdmin):
    list_display: tuple[str, ...] = (
        "short_id",
        "product_link",
        "quantity",
        "returned",
        "shown_status",
        "created_at",
        "held_until",
    )
    list_filter = (
        ("status", ChoicesRadioFilter),
        LapseFilter,
        ShelfFilter,
        ("created_at", PeriodFilter),
        ("decided_at", PeriodFilter),
    )
    linked_lookups = ("product__id__exact",)  # from the product's page
    search_fields = ("id",)
    search_help_text = "SKU, buyer’s key or id, in full"
    ordering = ("-created_at",)
    expected_errors = EXPECTED_ERRORS  # of ``release``
    actions = ("release_ticked",)
    actions_detail = ("release_hold",)
    fields: tuple[Any, ...] = (
        ("id", "status"),
        ("product_link", "strategy"),
        ("quantity", "returned", "written_off", "unit_price"),
        ("created_at", "expires_at", "decided_at"),
        "shown_buyer",
    )
    readonly_fields: tuple[str, ...] = ("id", "status", "product_link", "shown_buyer")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Reservation], search_term: str
    ) -> tuple[QuerySet[Reservation], bool]:
        """Search by one thing only: each has its own index, and an OR would use none of them."""
        term = search_term.strip()
        if not term:
            return queryset, False
        try:
            return queryset.filter(pk=UUID(term)), False
        except ValueError:
            pass
        product = Product.objects.filter(sku=term).first()
        if product is not None:
            return queryset.filter(product=product), False
        # Two indexes have a buyer's reservations: of those that count, and of the others.
        counted = Q(status__in=[Status.HELD, Status.SOLD])
        ended = Q(status__in=[Status.RELEASED, Status.EXPIRED])
        return queryset.filter(Q(counted, buyer=term) | Q(ended, buyer=term)), False

    @display(description="Reservation")
    def short_id(self, reservation: Reservation) -> str:
        return str(reservation.pk)[:8]

    @display(description="Status", label=STATUS)
    def shown_status(self, reservation: Reservation) -> tuple[str, str]:
        return reservation.status, reservation.get_status_display()

    @display(description="Buyer’s key")
    def shown_buyer(self, reservation: Reservation) -> str:
        return shortened(reservation.buyer)

    @display(description="Held until")
    def held_until(self, reservation: Reservation) -> datetime | None:
        return reservation.expires_at if reservation.status == Reservation.Status.HELD else None

    def offers_action(self, action: str, obj: Reservation) -> bool:
        return obj.status == Reservation.Status.HELD

    def has_release_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm("inventory.change_reservation")

    @action(
        description="Release the hold", icon="undo", permissions=["release"], url_path="release"
    )
    def release_hold(self, request: HttpRequest, object_id: str) -> HttpResponse:
        hold = object_or_404(self, request, object_id)
        return ask_then_run(
            self,
            request,
            hold,
            title="Release the hold",
            consequences=[
                f"{counted(hold.quantity, 'unit')} of {hold.product} will go back on sale, and the "
                "buyer loses them.",
                "A hold that was sold or has lapsed stays as it is.",
            ],
            button="Release",
            run=lambda data: self.release(hold),
            danger=True,
            expected_errors=self.expected_errors,
        )

    @action(description="Release the holds", permissions=["release"])
    def release_ticked(
        self, request: HttpRequest, queryset: QuerySet[Reservation]
    ) -> HttpResponse | None:
        return ask_then_run_for_rows(
            self,
            request,
            queryset,
            action="release_ticked",
            title="Release holds",
            consequences=["Their units go back on sale, and the buyers lose them."],
            button="Release",
            run=self.release,
            danger=True,
            expected_errors=self.expected_errors,
        )

    def release(self, hold: Reservation) -> str:
        """Release the hold, and return a sentence on the outcome."""
        released = reservations.release(hold.pk)
        units, name = released.quantity, hold.product
        outcome = counted(units, f"of {name} is back on sale.", f"of {name} are back on sale.")
        if released.status == Reservation.Status.EXPIRED:
            outcome = f"{units} of {name} went back on sale when the hold lapsed."
        if hold.status == Reservation.Status.HELD:
            return outcome
        return NothingChanged(f"{outcome} Nothing was released this time.")
