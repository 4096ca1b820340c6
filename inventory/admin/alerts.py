"""Stock alerts: what is wrong, what was, and who has seen it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from unfold.contrib.filters.admin import ChoicesRadioFilter, RadioFilter
from unfold.decorators import action, display
from unfold.enums import ActionVariant

from inventory import alerts
from inventory.admin.base import (
    NothingChanged,
    OffersWhatFits,
    OfProductAdmin,
    ask,
    ask_for_many,
    change_url,
    object_or_404,
    who,
)
from inventory.admin.filters import ShelfFilter
from inventory.models import StockAlert

KIND = {
    "stock below zero": "danger",
    "oversold": "danger",
    "drift": "danger",
    "low stock": "warning",
}


class StateFilter(RadioFilter):
    title = "state"
    parameter_name = "state"
    all_option = ("", "Open")

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("unseen", "Open, not acknowledged"), ("resolved", "Resolved"), ("all", "All")]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[StockAlert]
    ) -> QuerySet[StockAlert]:
        if self.value() == "all":
            return queryset
        if self.value() == "resolved":
            return queryset.exclude(resolved_at=None)
        if self.value() == "unseen":
            return queryset.filter(resolved_at=None, acknowledged_at=None)
        return queryset.filter(resolved_at=None)


@admin.register(StockAlert)
class StockAlertAdmin(OffersWhatFits, OfProductAdmin):
    list_display = ("shown_kind", "product_link", "figures", "raised_at", "state")
    list_display_links = ("shown_kind", "raised_at")
    list_filter = (StateFilter, ("kind", ChoicesRadioFilter), ShelfFilter)
    ordering = ("-pk",)
    actions = ("acknowledge_ticked",)
    actions_detail = ("acknowledge",)
    fields = (
        ("shown_kind", "product_link", "state"),
        "figures",
        ("raised_at", "told", "resolved_at"),
        ("acknowledged_at", "acknowledged_by"),
    )
    readonly_fields = ("shown_kind", "product_link", "figures", "state", "told")

    def get_queryset(self, request: HttpRequest) -> QuerySet[StockAlert]:
        return super().get_queryset(request).select_related("acknowledged_by")

    @display(description="Alert", label=KIND)
    def shown_kind(self, alert: StockAlert) -> str:
        return alert.get_kind_display()

    @display(description="Product")
    def product_link(self, alert: StockAlert) -> str:
        return format_html(
            '<a class="link" href="{}">{}</a>', change_url(alert.product), alert.product
        )

    @display(description="State")
    def state(self, alert: StockAlert) -> str:
        if alert.resolved_at:
            return "resolved"
        if alert.acknowledged_at:
            return f"seen by {alert.acknowledged_by}"
        return "open"

    @display(description="Managers were told")
    def told(self, alert: StockAlert) -> datetime | str:
        if alert.notified_at:
            return alert.notified_at
        return "Never: an exhibit is nobody’s worry." if alert.product.is_exhibit else "Not yet."

    def fits(self, action: str, obj: StockAlert) -> bool:
        return obj.resolved_at is None and obj.acknowledged_at is None

    def has_acknowledge_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm("inventory.change_stockalert")

    @action(
        description="Acknowledge",
        icon="check",
        permissions=["acknowledge"],
        url_path="acknowledge",
        variant=ActionVariant.PRIMARY,
    )
    def acknowledge(self, request: HttpRequest, object_id: str) -> HttpResponse:
        alert = object_or_404(self, request, object_id)

        return ask(
            self,
            request,
            alert,
            title=f"Acknowledge {_name(alert)}",
            will=[
                "The banner doesn’t show it any more.",
                "It stays open until the stock is right again, and is resolved by itself then.",
            ],
            button="Acknowledge",
            do=lambda data: _acknowledge(alert, request),
        )

    @action(description="Acknowledge", permissions=["acknowledge"])
    def acknowledge_ticked(
        self, request: HttpRequest, queryset: QuerySet[StockAlert]
    ) -> HttpResponse | None:
        return ask_for_many(
            self,
            request,
            queryset,
            action="acknowledge_ticked",
            title="Acknowledge alerts",
            will=[
                "The banner doesn’t show these any more; they stay open until they are resolved."
            ],
            button="Acknowledge",
            do=lambda alert: _acknowledge(alert, request),
        )


def _acknowledge(alert: StockAlert, request: HttpRequest) -> str:
    if alerts.acknowledge([alert.pk], who(request)):
        return f"You have acknowledged {_name(alert)}."
    return NothingChanged(f"{_name(alert)} was acknowledged or resolved already.")


def _name(alert: StockAlert) -> str:
    return f"{alert.get_kind_display()} of {alert.product}"
