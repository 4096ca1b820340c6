"""Products. A form edits their fields; their stock changes only by movements and reservations."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError
from django.db.models import F, ProtectedError, QuerySet, TextChoices
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from unfold.contrib.filters.admin import RadioFilter
from unfold.contrib.import_export.forms import ExportForm
from unfold.decorators import action, display
from unfold.paginator import InfinitePaginator

from inventory import monitor, stock, strategies
from inventory.admin.base import (
    NothingChanged,
    ask_about_rows,
    ask_then_run,
    ask_then_run_for_rows,
    change_url,
    list_url,
    object_or_404,
    user_of,
)
from inventory.admin.csv import ProductResource
from inventory.admin.filters import ProductShelfFilter
from inventory.admin.importing import CsvAdmin, CsvForm
from inventory.admin.product_forms import ProductForm, strategies_explained
from inventory.admin.stock_actions import StockActions, movement_in_words
from inventory.models import Product, Reservation, StockMovement


class ProductsForm(CsvForm):
    help_of_file = (
        "The file needs the column sku, and a column for each field that you want to change. Each "
        "product has one row; an unknown SKU is a new product. Import stock as stock movements. "
        "You see a preview, old → new, before anything is written."
    )


class StockFilter(RadioFilter):
    title = "stock"
    parameter_name = "stock_is"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("low", "Low"), ("none", "None"), ("below", "Below zero")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Product]) -> QuerySet[Product]:
        if self.value() == "low":
            with_threshold = queryset.filter(low_stock_threshold__gt=0)
            return with_threshold.filter(stock__lt=F("low_stock_threshold"), is_active=True)
        if self.value() == "none":
            return queryset.filter(stock=0)
        if self.value() == "below":
            return queryset.filter(stock__lt=0)
        return queryset


class State(TextChoices):
    """The state of a product in the list."""

    FOR_SALE = "FOR_SALE", "for sale"
    SWITCHED_OFF = "SWITCHED_OFF", "switched off"
    EXHIBIT = "EXHIBIT", "exhibit"


STATE = {State.FOR_SALE: "success", State.SWITCHED_OFF: "warning", State.EXHIBIT: "info"}


@admin.register(Product)
class ProductAdmin(CsvAdmin, StockActions):
    form = ProductForm
    paginator = InfinitePaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    list_filter_submit = True
    list_display = ("name_and_sku", "price", "stock", "state", "strategy_in_use")
    list_display_links = ("name_and_sku",)
    list_filter = (ProductShelfFilter, StockFilter, ("is_active", admin.BooleanFieldListFilter))
    search_fields = ("name", "sku")
    search_help_text = "Name or SKU"
    ordering = ("name", "pk")
    prepopulated_fields = {"slug": ["name"]}
    readonly_fields = ("stock_now",)
    actions = ("delete_or_refuse", "switch_off_ticked")
    actions_detail: tuple[str, ...] = (
        "stock_history",
        "receive_units",
        "remove_units",
        "repair_count",
        "switch_off",
    )
    resource_classes = (ProductResource,)
    import_form_class = ProductsForm
    export_form_class = ExportForm
    import_export_change_list_template = "admin/import_export/change_list_import_export.html"
    fieldsets = (
        (None, {"fields": (("name", "sku"), "description", "picture")}),
        ("Sale", {"fields": (("price", "max_per_buyer"), "is_active")}),
        ("Stock", {"fields": ("stock_now", "initial_stock", "low_stock_threshold")}),
        (
            "Advanced",
            {
                "fields": ("slug", "strategy", "confirm_unsafe", "backstop"),
                "classes": ("collapse",),
            },
        ),
    )

    # The list

    @display(description="Product", header=True, ordering="name")
    def name_and_sku(self, product: Product) -> list[str]:
        return [product.name, product.sku]

    @display(description="State", label=STATE)
    def state(self, product: Product) -> tuple[str, str]:
        if product.is_exhibit:
            state = State.EXHIBIT
        else:
            state = State.FOR_SALE if product.is_active else State.SWITCHED_OFF
        return state.value, state.label

    @display(description="Strategy")
    def strategy_in_use(self, product: Product) -> str:
        return strategies.label_of(product.strategy) if product.strategy else "default"

    # The form

    @display(description="Units")
    def stock_now(self, product: Product) -> str:
        state = monitor.state_of(product.pk)
        return format_html(
            'received {} {} available {} + <a class="link" href="{}">held {}</a> + '
            '<a class="link" href="{}">sold {}</a>{} · <a class="link" href="{}">Stock history</a>',
            state.received,
            "≠" if state.drift else "=",
            state.available,
            list_url(Reservation, f"product__id__exact={product.pk}&status__exact=HELD"),
            state.held,
            list_url(Reservation, f"product__id__exact={product.pk}&status__exact=SOLD"),
            state.sold,
            ""
            if state.keeps_law
            else format_html(
                ' <strong class="wrong">is wrong: drift {}, oversold {}</strong>',
                f"{state.drift:+d}",
                state.oversold,
            ),
            reverse("admin:inventory_product_stock_history", args=[product.pk]),
        )

    def get_fieldsets(self, request: HttpRequest, obj: Product | None = None) -> Any:
        left_out = {"initial_stock"} if obj else {"stock_now"}
        if not self.has_move_permission(request):
            left_out.add("initial_stock")
        fieldsets: list[tuple[str | None, dict[str, Any]]] = [
            (name, {**options, "fields": tuple(f for f in options["fields"] if f not in left_out)})
            for name, options in self.fieldsets
        ]
        fieldsets[-1][1]["description"] = strategies_explained()
        return fieldsets

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().changeform_view(request, *args, **kwargs)
        except IntegrityError:
            # Somebody else has taken the SKU or the address since the form was checked. The form
            # is checked again, and shows the error.
            return super().changeform_view(request, *args, **kwargs)

    def save_model(
        self, request: HttpRequest, obj: Product, form: ProductForm, change: bool
    ) -> None:
        """Write only the fields that were changed in the form: stock may change at the same time.

        A new product and its first units are written in one transaction.
        """
        if change:
            obj.save(update_fields=form.changed_fields())
            return
        obj.save()
        units = form.cleaned_data.get("initial_stock")
        if units and self.has_move_permission(request):
            stock.receive(obj, units, reason=StockMovement.Reason.DELIVERY, by=user_of(request))

    def response_add(
        self, request: HttpRequest, obj: Product, post_url_continue: str | None = None
    ) -> HttpResponse:
        first = obj.movements.first()
        if first is not None:
            messages.success(request, movement_in_words(first))
        else:
            messages.info(
                request,
                format_html(
                    '{} has no stock yet. <a class="link" href="{}">Receive units</a> to put it on '
                    "sale.",
                    obj,
                    reverse("admin:inventory_product_receive_units", args=[obj.pk]),
                ),
            )
        return super().response_add(request, obj, post_url_continue)

    def offers_action(self, action: str, obj: Product) -> bool:
        return action != "switch_off" or obj.is_active

    # Switching off and deleting

    @action(
        description="Switch off",
        permissions=["change"],
        url_path="switch-off",
    )
    def switch_off(self, request: HttpRequest, object_id: str) -> HttpResponse:
        product = object_or_404(self, request, object_id)
        return ask_then_run(
            self,
            request,
            product,
            title=f"Switch {product} off",
            consequences=[
                "Customers no longer see it, and nobody can reserve it.",
                "Buyers who hold units of it may still buy them. Its history stays.",
            ],
            button="Switch off",
            run=lambda data: _switch_off(product),
        )

    @action(description="Switch off", permissions=["change"])
    def switch_off_ticked(
        self, request: HttpRequest, queryset: QuerySet[Product]
    ) -> HttpResponse | None:
        return ask_then_run_for_rows(
            self,
            request,
            queryset,
            action="switch_off_ticked",
            title="Switch products off",
            consequences=["Customers no longer see these, and nobody can reserve them."],
            button="Switch off",
            run=_switch_off,
        )

    def get_actions(self, request: HttpRequest) -> Any:
        actions = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions

    @action(description="Delete", permissions=["delete"])
    def delete_or_refuse(
        self, request: HttpRequest, queryset: QuerySet[Product]
    ) -> HttpResponse | None:
        """Delete products without history. If some have one, offer to switch those off instead."""
        with_history = [product for product in queryset if has_history(product)]
        if with_history:
            names = ", ".join(product.sku for product in with_history)
            messages.error(
                request,
                "Nothing was deleted. Some products have reservations or stock movements, and this "
                f"history must stay: {names}.",
            )
            return self._offer_switching_off(request, with_history)
        return ask_then_run_for_rows(
            self,
            request,
            queryset,
            action="delete_or_refuse",
            title="Delete products",
            consequences=["These products never had stock. They will be deleted for good."],
            button="Delete",
            run=lambda product: self._delete(request, product),
            danger=True,
            expected_errors=(ProtectedError,),
        )

    def _offer_switching_off(
        self, request: HttpRequest, products: list[Product]
    ) -> HttpResponse | None:
        """Ask about another action than the one that was sent. Only its own form runs it."""
        if not self.has_change_permission(request):
            return None
        return ask_about_rows(
            self,
            request,
            products,
            action="switch_off_ticked",
            title="Switch them off instead?",
            consequences=["Customers no longer see these, and nobody can reserve them."],
            button="Switch off",
        )

    def _delete(self, request: HttpRequest, product: Product) -> None:
        name = str(product)
        self.log_deletions(request, [product])
        product.delete()
        messages.success(request, f"{name} was deleted.")

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        product = object_or_404(self, request, object_id)
        if not self.has_delete_permission(request, product):
            raise PermissionDenied
        if has_history(product):
            messages.error(
                request,
                f"{product} can’t be deleted. It has reservations or stock movements, and this "
                "history must stay.",
            )
            if not self.has_change_permission(request, product):
                return HttpResponseRedirect(change_url(product))
            return HttpResponseRedirect(
                reverse("admin:inventory_product_switch_off", args=[product.pk])
            )
        return super().delete_view(request, object_id, extra_context)

    # Import and export

    def has_import_permission(self, request: HttpRequest) -> bool:
        return self.has_change_permission(request) and self.has_add_permission(request)


def has_history(product: Product) -> bool:
    return product.reservations.exists() or product.movements.exists() or product.alerts.exists()


def _switch_off(product: Product) -> str:
    if Product.objects.filter(pk=product.pk, is_active=True).update(is_active=False):
        return f"{product} is switched off. Nobody can reserve it any more."
    return NothingChanged(f"{product} is switched off already.")
