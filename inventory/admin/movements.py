"""Stock movements: the record of all units received and removed. Files can add to it."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.contrib.filters.admin import ChoicesRadioFilter
from unfold.contrib.import_export.forms import ExportForm
from unfold.decorators import display

from inventory.admin.base import ProductRecordAdmin
from inventory.admin.csv import StockMovementResource
from inventory.admin.filters import PeriodFilter, ShelfFilter
from inventory.admin.importing import CsvAdmin, CsvForm
from inventory.models import StockMovement


class MovementsForm(CsvForm):
    help_of_file = (
        "The columns are sku and units, and if you like reason and note. Each product has one row. "
        "Units are the units received (12) or removed (-3), not the stock itself. You see a "
        "preview before anything is written."
    )


@admin.register(StockMovement)
class StockMovementAdmin(CsvAdmin, ProductRecordAdmin):
    list_display = ("made_at", "product_link", "signed_units", "reason", "stock", "made_by", "note")
    list_filter = (("reason", ChoicesRadioFilter), ShelfFilter, ("made_at", PeriodFilter))
    ordering = ("-pk",)
    fields = (
        ("product_link", "signed_units", "stock"),
        ("reason", "note"),
        ("made_by", "made_at"),
    )
    readonly_fields = ("product_link", "signed_units", "stock")
    resource_classes = (StockMovementResource,)
    import_form_class = MovementsForm
    export_form_class = ExportForm
    import_export_change_list_template = "admin/import_export/change_list_import_export.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[StockMovement]:
        return super().get_queryset(request).select_related("made_by")

    @display(description="Units")
    def signed_units(self, movement: StockMovement) -> str:
        return f"{movement.units:+d}" if movement.units else "0"

    @display(description="Stock")
    def stock(self, movement: StockMovement) -> str:
        return f"{movement.stock_before} → {movement.stock_after}"

    # Import and export

    def has_import_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("inventory.add_stockmovement"))
