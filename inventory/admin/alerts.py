"""Alerts: open, acknowledged, and resolved."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from unfold.contrib.filters.admin import ChoicesRadioFilter, RadioFilter
from unfold.decorators import action, display
from unfold.enums import ActionVariant

from inventory.admin.base import (
    NothingChanged,
    OffersPossibleActions,
    ProductRecordAdmin,
    ReadOnlyAdmin,
    ask_then_run,
    ask_then_run_for_rows,
    object_or_404,
    user_of,
)
from inventory.admin.filters import ShelfFilter
from inventory.models import Alert, StockAlert

Kind = StockAlert.Kind
KIND = {
    Kind.NEGATIVE_STOCK: "danger",
    Kind.OVERSOLD: "danger",
    Kind.DRIFT: "danger",
    Kind.LOW_STOCK: "warning",
}


class StateFilter(RadioFilter):
    title = "state"
    parameter_name = "state"
    all_option = ("", "Open")

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("unseen", "Open, not acknowledged"), ("resolved", "Resolved"), ("all", "All")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() == "all":
            return queryset
        if self.value() == "resolved":
            return queryset.exclude(resolved_at=None)
        if self.value() == "unseen":
            return queryset.filter(resolved_at=None, acknowledged_at=None)
        return queryset.filter(resolved_at=None)


class AlertAdmin(OffersPossibleActions, ReadOnlyAdmin):
    """The base of all admins of alerts: their states, and the action that acknowledges them."""

    ordering = ("-pk",)
    actions = ("acknowledge_ticked",)
    actions_detail: tuple[str, ...] = ("acknowledge",)

    def name_of(self, alert: Any) -> str:
        """The alert's name in a sentence."""
        raise NotImplementedError

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("acknowledged_by")

    @display(description="State")
    def state(self, alert: Alert) -> str:
        if alert.resolved_at:
            return "resolved"
        if alert.acknowledged_at:
            return f"seen by {alert.acknowledged_by}"
        return "open"

    @display(description="Managers notified")
    def managers_notified(self, alert: Any) -> datetime | str:
        return alert.notified_at or "Not yet."

    def offers_action(self, action: str, obj: Any) -> bool:
        return obj.resolved_at is None and obj.acknowledged_at is None

    def has_acknowledge_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm(f"{self.opts.app_label}.change_{self.opts.model_name}")

    @action(
        description="Acknowledge",
        icon="check",
        permissions=["acknowledge"],
        url_path="acknowledge",
        variant=ActionVariant.PRIMARY,
    )
    def acknowledge(self, request: HttpRequest, object_id: str) -> HttpResponse:
        alert = object_or_404(self, request, object_id)
        return ask_then_run(
            self,
            request,
            alert,
            title=f"Acknowledge {self.name_of(alert)}",
            consequences=[
                "The banner no longer shows this alert.",
                "The alert stays open until the fault is gone. Then it resolves itself.",
            ],
            button="Acknowledge",
            run=lambda data: self._acknowledge(alert, request),
        )

    @action(description="Acknowledge", permissions=["acknowledge"])
    def acknowledge_ticked(
        self, request: HttpRequest, queryset: QuerySet[Any]
    ) -> HttpResponse | None:
        return ask_then_run_for_rows(
            self,
            request,
            queryset,
            action="acknowledge_ticked",
            title="Acknowledge alerts",
            consequences=[
                "The banner no longer shows these alerts.",
                "Each one stays open until its fault is gone. Then it resolves itself.",
            ],
            button="Acknowledge",
            run=lambda alert: self._acknowledge(alert, request),
        )

    def _acknowledge(self, alert: Any, request: HttpRequest) -> str:
        name = self.name_of(alert)
        if self.model.objects.filter(pk=alert.pk).acknowledge(user_of(request)):
            return f"You have acknowledged {name}."
        return NothingChanged(f"{name} is acknowledged or resolved already.")


@admin.register(StockAlert)
class StockAlertAdmin(AlertAdmin, ProductRecordAdmin):
    list_display = ("shown_kind", "product_link", "figures", "raised_at", "state")
    list_display_links = ("shown_kind", "raised_at")
    list_filter = (StateFilter, ("kind", ChoicesRadioFilter), ShelfFilter)
    fields = (
        ("kind", "product_link", "state"),
        "figures",
        ("raised_at", "managers_notified", "resolved_at"),
        ("acknowledged_at", "acknowledged_by"),
    )
    readonly_fields = ("kind", "product_link", "figures", "state", "managers_notified")

    def name_of(self, alert: StockAlert) -> str:
        return f"{alert.get_kind_display()} of {alert.product}"

    @display(description="Alert", label=KIND)
    def shown_kind(self, alert: StockAlert) -> tuple[str, str]:
        return alert.kind, alert.get_kind_display()

    @display(description="Managers notified")
    def managers_notified(self, alert: StockAlert) -> datetime | str:
        if alert.product.is_exhibit and not alert.notified_at:
            return "Never: a flash sale breaks its exhibits on purpose."
        return super().managers_notified(alert)
