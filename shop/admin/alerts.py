"""Alerts about orders, money and jobs: open, resolved, and acknowledged."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.text import Truncator
from unfold.contrib.filters.admin import ChoicesRadioFilter
from unfold.decorators import action, display

from inventory.admin.alerts import AlertAdmin, StateFilter
from inventory.admin.base import NothingChanged, ask_then_run, link_to, object_or_404
from inventory.words import counted
from shop import jobs
from shop.models import Order, ShopAlert

IN_SHORT = 50  # characters: two lines on a phone
Kind = ShopAlert.Kind
KIND = dict.fromkeys(Kind, "danger")


@admin.register(ShopAlert)
class ShopAlertAdmin(AlertAdmin):
    list_display = ("shown_kind", "order_link", "in_short", "raised_at", "state")
    list_display_links = ("shown_kind", "raised_at")
    list_filter = (StateFilter, ("kind", ChoicesRadioFilter))
    search_fields = ("order__number",)
    search_help_text = "The order’s number, in full"
    actions_detail = ("acknowledge", "try_again")
    fields = (
        ("kind", "order_link", "state"),
        "text",
        ("raised_at", "managers_notified", "resolved_at"),
        ("acknowledged_at", "acknowledged_by"),
    )
    readonly_fields = ("kind", "order_link", "state", "managers_notified")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("order")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        return queryset.filter(order__in=Order.objects.filter(number=term.upper())), False

    def name_of(self, alert: ShopAlert) -> str:
        kind = alert.get_kind_display()
        return f"“{kind}” of order {alert.order.number}" if alert.order else f"“{kind}”"

    @display(description="Alert", label=KIND)
    def shown_kind(self, alert: ShopAlert) -> tuple[str, str]:
        return alert.kind, alert.get_kind_display()

    @display(description="In short")
    def in_short(self, alert: ShopAlert) -> str:
        return Truncator(alert.text).chars(IN_SHORT)

    @display(description="Order")
    def order_link(self, alert: ShopAlert) -> str | None:
        return link_to(alert.order, alert.order.number) if alert.order else None

    def offers_action(self, action: str, obj: Any) -> bool:
        if action == "try_again":
            return obj.resolved_at is None and obj.kind in (Kind.MAIL_FAILED, Kind.JOB_FAILED)
        return super().offers_action(action, obj)

    @action(description="Try again", permissions=["acknowledge"], url_path="try-again")
    def try_again(self, request: HttpRequest, object_id: str) -> HttpResponse:
        alert = object_or_404(self, request, object_id)

        def run(data: dict[str, Any]) -> str:
            number = jobs.retry_failed(alert.subject)
            if not number:
                return NothingChanged("No failed job of this kind is left: nothing was done.")
            return f"{counted(number, 'job')} will be tried once more."

        return ask_then_run(
            self,
            request,
            alert,
            title="Try the failed jobs again",
            consequences=[
                "The worker tries each job once more. It skips an e-mail that is out of date."
            ],
            button="Try again",
            run=run,
        )
