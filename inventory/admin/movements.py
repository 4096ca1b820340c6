"""Stock movements: the book of what came in and went out. They come in as files, too."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.contrib.filters.admin import ChoicesRadioFilter
from unfold.contrib.import_export.forms import ExportForm
from unfold.decorators import display

from inventory.admin.base import OfProductAdmin
from inventory.admin.csv import StockMovementResource
from inventory.admin.filters import PeriodFilter, ShelfFilter
from inventory.admin.importing import CsvAdmin, CsvForm
from inventory.models import StockMovement


class MovementsForm(CsvForm):
    expected = (
        "Columns sku and units, and if you like reason and note; a row per product. Units are what "
        "came in (12) or went out (-3), never the stock itself. You see what it does before it is "
        "done."
    )


@admin.register(StockMovement)
class StockMovementAdmin(CsvAdmin, OfProductAdmin):
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
