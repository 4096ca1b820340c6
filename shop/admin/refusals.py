"""Refusals: units that buyers asked for and did not get."""

from __future__ import annotations

from django.contrib import admin

from inventory.admin.base import ProductRecordAdmin
from inventory.admin.filters import PeriodFilter
from shop.models import Refusal


@admin.register(Refusal)
class RefusalAdmin(ProductRecordAdmin):
    list_display = ("refused_at", "product_link", "quantity")
    list_display_links = None
    list_filter = (("refused_at", PeriodFilter),)
    ordering = ("-refused_at", "-pk")
    fields = (("refused_at", "product_link", "quantity"),)
    readonly_fields = ("product_link",)
