"""Products: what is sold is typed; how many there are is received, removed, or counted again."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain, count
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import IntegrityError
from django.db.models import F, ProtectedError, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.defaultfilters import pluralize
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.text import slugify
from unfold.contrib.filters.admin import RadioFilter
from unfold.contrib.import_export.forms import ExportForm
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.paginator import InfinitePaginator
from unfold.widgets import UnfoldAdminTextInputWidget, UnfoldBooleanWidget

from inventory import conf, monitor, stock, strategies, timeline
from inventory.admin.base import (
    AskForm,
    LineField,
    NothingChanged,
    OffersWhatFits,
    OnceForm,
    OneOfField,
    UnitsField,
    ask,
    ask_for_many,
    change_url,
    clock,
    list_url,
    object_or_404,
    who,
)
from inventory.admin.csv import ProductResource
from inventory.admin.filters import ProductShelfFilter
from inventory.admin.importing import CsvAdmin, CsvForm
from inventory.models import Product, Reservation, StockMovement

Reason = StockMovement.Reason
PICTURE = "picture"
NO_FIELDS_OF_IT = ("initial_stock", "confirm_unsafe")
NOT_COMPARED = (PICTURE, *NO_FIELDS_OF_IT)  # with what the form showed
ENTRIES = 50  # of the stock history on a page
OVERSELLS = mark_safe(' <span class="unsafe">oversells</span>')


class ReceiveForm(OnceForm):
    units = UnitsField(label="Units received")
    reason = OneOfField(
        choices=[
            (each.value, each.label) for each in (Reason.DELIVERY, Reason.STOCKTAKE, Reason.OTHER)
        ]
    )
    note = LineField(required=False, help_text="Such as the number of the delivery note.")


class RemoveForm(OnceForm):
    units = UnitsField(label="Units removed")
    reason = OneOfField(
        choices=[
            (each.value, each.label)
            for each in (Reason.DAMAGE, Reason.STOCKTAKE, Reason.SENT_BACK, Reason.OTHER)
        ]
    )
    note = LineField(required=False)


class RepairForm(AskForm):
    note = LineField(required=False, help_text="What you think has happened.")


class ProductsForm(CsvForm):
    expected = (
        "Column sku, and those of what you want to change; a row per product. An unknown SKU is a "
        "new product. Stock comes in as stock movements. You see old → new before anything is "
        "written."
    )


class ProductForm(forms.ModelForm):  # type: ignore[type-arg]
    """Knows what it showed when it was opened, and so writes only what was changed since."""

    initial_stock = UnitsField(
        label="Units in stock",
        min_value=0,
        required=False,
        help_text="How many you have. They are on sale at once; empty: none yet.",
    )
    confirm_unsafe = forms.BooleanField(
        label="Use it all the same", required=False, widget=UnfoldBooleanWidget()
    )
    strategy = OneOfField(
        required=False,
        help_text="How stock is taken. The default is right for every product of a shop.",
    )

    class Meta:
        model = Product
        fields: ClassVar[list[str]] = [
            "name",
            "sku",
            "slug",
            "description",
            "price",
            "picture",
            "is_active",
            "low_stock_threshold",
            "max_per_buyer",
            "strategy",
            "backstop",
        ]
        help_texts: ClassVar[dict[str, str]] = {
            "slug": "The end of it, in small letters and hyphens. Empty: made from the name.",
            "low_stock_threshold": "You are told when fewer units than this are available. "
            "0: never. Baskets that come and go tell it once a day at most, until units are "
            "received.",
        }
        labels: ClassVar[dict[str, str]] = {"slug": "Address of its page"}
        error_messages: ClassVar[dict[str, dict[str, str]]] = {
            "price": {"invalid": "Enter an amount such as 19.90, with a point before the cents."},
            "slug": {"unique": "Another product’s page has this address already."},
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, field in self.fields.items():
            field.show_hidden_initial = name not in NOT_COMPARED
        if self.instance.pk:
            del self.fields["initial_stock"]
        if "slug" in self.fields:
            self.fields["slug"].required = False
        if "price" in self.fields:  # of "19,90" a field for numbers alone would send nothing
            self.fields["price"].widget = UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal"})
        if "strategy" in self.fields:
            choices = strategy_choices(self.instance.strategy)
            self.fields["strategy"].choices = choices  # type: ignore[attr-defined]
        if "confirm_unsafe" in self.fields and not self._chooses_unsafe():
            self.fields["confirm_unsafe"].widget = forms.HiddenInput()

    def clean_sku(self) -> str:
        sku: str = self.cleaned_data["sku"]
        other = Product.objects.exclude(pk=self.instance.pk).filter(sku=sku).first()
        if other is not None:
            raise ValidationError(
                format_html(
                    '<a class="link" href="{}">{}</a> has this SKU already.',
                    change_url(other),
                    other,
                )
            )
        return sku

    def clean_slug(self) -> str:
        """As it was typed, else made from the name; of two such products one gets a number."""
        typed: str = self.cleaned_data["slug"]
        if typed:
            return typed
        made_from = (self.cleaned_data.get(name, "") for name in ("name", "sku"))
        start = next(filter(None, map(slugify, made_from)), "product")[:90]
        others = Product.objects.exclude(pk=self.instance.pk).filter(slug__startswith=start)
        taken = set(others.values_list("slug", flat=True))
        numbered = (f"{start}-{number}" for number in count(2))
        return next(slug for slug in chain([start], numbered) if slug not in taken)

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        if self.instance.pk:
            self._check_what_is_there_now()
        self._check_unsafe_is_meant(data)
        return data

    def changed_fields(self) -> list[str]:
        """The product's fields that were changed in this form."""
        return [name for name in self.changed_data if name not in NO_FIELDS_OF_IT]

    def _check_what_is_there_now(self) -> None:
        """Somebody else may have saved the product since this form was opened, or sold of it.

        The row stays locked until the admin's transaction has saved it.
        """
        now = Product.objects.select_for_update(no_key=True).get(pk=self.instance.pk)
        for name in self.changed_fields():
            if name == PICTURE or name not in self.cleaned_data:
                continue
            was, is_now = self._shown(name), getattr(now, name)
            if is_now not in (was, self.cleaned_data[name]):  # it may be this form, sent again
                self.add_error(
                    name,
                    f"Somebody has changed this from “{was}” to “{is_now}” since you opened the "
                    "form. Open it again to see what they did.",
                )
        if now.stock < 0 and self.cleaned_data.get("backstop") and "backstop" in self.changed_data:
            self.add_error(
                "backstop",
                f"{now.stock} are available: it can be switched on at zero or more. Receiving what "
                "is missing switches it on by itself.",
            )

    def _shown(self, name: str) -> Any:
        """What the form showed in that field when it was opened; None if it doesn't tell."""
        bound = self[name]
        posted = bound.field.hidden_widget().value_from_datadict(
            self.data, self.files, bound.html_initial_name
        )
        try:
            return bound.field.clean(posted)
        except ValidationError:
            return None

    def _check_unsafe_is_meant(self, data: dict[str, Any]) -> None:
        if "strategy" not in data or not self._chooses_unsafe() or data.get("confirm_unsafe"):
            return
        chosen = strategies.get(data["strategy"])
        self.add_error(
            "strategy",
            f"{chosen.label} is here to be seen failing: with it this product will be sold more "
            f"often than there are units. {chosen.how} Tick “Use it all the same” if you mean it.",
        )

    def _chooses_unsafe(self) -> bool:
        """Whether this form switches a strategy on that oversells."""
        if not self.is_bound or "strategy" not in self.fields:
            return False
        slug = self.data.get(self.add_prefix("strategy"), "")
        chosen = strategies.find(slug)
        if chosen is None or chosen.is_safe:
            return False
        return not self.instance.pk or "strategy" in self.changed_data


def strategy_choices(own: str = "") -> list[tuple[str, Any]]:
    """The strategies by name, those that oversell apart; and ``own``, also if it is gone."""
    default = strategies.get(conf.default_strategy())
    named: dict[bool, list[tuple[str, str]]] = {True: [], False: []}
    for each in reversed(strategies.all_strategies()):
        named[each.is_safe].append((each.slug, each.label))
    choices: list[tuple[str, Any]] = [
        ("", f"The shop’s default ({default.label})"),
        ("Safe", named[True]),
        ("Oversell, and are here to be seen failing", named[False]),
    ]
    if own and strategies.find(own) is None:
        choices.append((own, f"{own} (there is none of that name any more: choose another)"))
    return choices


def strategies_explained() -> SafeString:
    """What each strategy says of itself, to be unfolded."""
    each_one = format_html_join(
        "",
        "<dt>{}{}</dt><dd>{} <em>{}</em></dd>",
        (
            (each.label, "" if each.is_safe else OVERSELLS, each.how, each.when)
            for each in reversed(strategies.all_strategies())
        ),
    )
    return format_html(
        '<details class="explained"><summary>How stock is taken, in each strategy</summary>'
        "<dl>{}</dl></details>",
        each_one,
    )


class StockFilter(RadioFilter):
    title = "stock"
    parameter_name = "stock_is"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("low", "Low"), ("none", "None"), ("below", "Below zero")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Product]) -> QuerySet[Product]:
        if self.value() == "low":
            return queryset.filter(stock__lt=F("low_stock_threshold"), is_active=True)
        if self.value() == "none":
            return queryset.filter(stock=0)
        if self.value() == "below":
            return queryset.filter(stock__lt=0)
        return queryset


@admin.register(Product)
class ProductAdmin(CsvAdmin, OffersWhatFits):
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

    @display(
        description="State",
        label={"for sale": "success", "switched off": "warning", "exhibit": "info"},
    )
    def state(self, product: Product) -> str:
        if product.is_exhibit:
            return "exhibit"
        return "for sale" if product.is_active else "switched off"

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
            # Somebody else has taken the SKU or the address since the form was checked: checked
            # again, it says so.
            return super().changeform_view(request, *args, **kwargs)

    def save_model(
        self, request: HttpRequest, obj: Product, form: ProductForm, change: bool
    ) -> None:
        """Write what was changed in the form, and nothing else: stock moves on meanwhile.

        A new product comes with its first units, or not at all: both are in one transaction.
        """
        if change:
            obj.save(update_fields=form.changed_fields())
            return
        obj.save()
        units = form.cleaned_data.get("initial_stock")
        if units and self.has_move_permission(request):
            stock.receive(obj, units, reason=Reason.DELIVERY, by=who(request))

    def response_add(
        self, request: HttpRequest, obj: Product, post_url_continue: str | None = None
    ) -> HttpResponse:
        first = obj.movements.first()
        if first is not None:
            messages.success(request, moved(first))
        else:
            messages.info(
                request,
                format_html(
                    '{} has no stock yet: <a class="link" href="{}">receive units</a> to put it on '
                    "sale.",
                    obj,
                    reverse("admin:inventory_product_receive_units", args=[obj.pk]),
                ),
            )
        return super().response_add(request, obj, post_url_continue)

    def fits(self, action: str, obj: Product) -> bool:
        return action != "switch_off" or obj.is_active

    # Stock

    def has_move_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm("inventory.add_stockmovement")

    @action(
        description="Receive",
        icon="add",
        permissions=["move"],
        url_path="receive",
        variant=ActionVariant.PRIMARY,
    )
    def receive_units(self, request: HttpRequest, object_id: str) -> HttpResponse:
        product = object_or_404(self, request, object_id)

        return ask(
            self,
            request,
            product,
            title=f"Receive units of {product}",
            will=[
                f"{product.sku} has {product.stock} available now; what you receive is added to "
                "what is there at that moment, and is on sale at once."
            ],
            button="Receive",
            do=_moving(stock.receive, product, request, opened_again="Receive again"),
            form_class=ReceiveForm,
        )

    @action(description="Remove", permissions=["move"], url_path="remove")
    def remove_units(self, request: HttpRequest, object_id: str) -> HttpResponse:
        product = object_or_404(self, request, object_id)

        return ask(
            self,
            request,
            product,
            title=f"Remove units of {product}",
            will=[
                f"{product.sku} has {product.stock} available now. Only available units can go; "
                "what is held or sold stays."
            ],
            button="Remove",
            do=_moving(stock.remove, product, request, opened_again="Remove again"),
            form_class=RemoveForm,
            danger=True,
        )

    @action(description="Repair", permissions=["move"], url_path="repair")
    def repair_count(self, request: HttpRequest, object_id: str) -> HttpResponse:
        product = object_or_404(self, request, object_id)
        state = monitor.state_of(product.pk)
        right = state.available - state.drift
        will = [
            f"Stock is set to received − held − sold: {state.available} → {right} as it stands."
        ]
        if state.drift == 0:
            will = ["Received = available + held + sold: there is nothing to repair."]
        elif right < 0:
            will.append(
                f"{-right} unit{pluralize(-right, ' is,s are')} promised that "
                f"{pluralize(-right, 'doesn’t,don’t')} exist: it stays oversold until units are "
                "received or orders cancelled."
            )

        def do(data: dict[str, Any]) -> str:
            movement = stock.repair(product, note=data["note"], by=who(request))
            if movement is None:
                return NothingChanged(
                    f"{product.sku}: the count was right, and nothing was repaired."
                )
            return moved(movement)

        return ask(
            self,
            request,
            product,
            title=f"Repair the count of {product}",
            will=will,
            button="Repair",
            do=do,
            form_class=RepairForm,
        )

    def has_see_movements_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm("inventory.view_stockmovement")

    @action(
        description="Stock history",
        icon="swap_vert",
        permissions=["see_movements"],
        url_path="stock-history",
    )
    def stock_history(self, request: HttpRequest, object_id: str) -> HttpResponse:
        product = object_or_404(self, request, object_id)
        before = timeline.place(request.GET.get("before", ""))
        entries = timeline.of_product(product.pk, before=before, most=ENTRIES)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"Stock history of {product}",
            "original": product,
            "entries": entries,
            "before": before,
            "older": str(entries[-1].place) if len(entries) == ENTRIES else "",
            "back": change_url(product),
        }
        return TemplateResponse(request, "admin/inventory/stock_history.html", context)

    # Switching off, and why not to delete

    @action(
        description="Switch off",
        permissions=["change"],
        url_path="switch-off",
    )
    def switch_off(self, request: HttpRequest, object_id: str) -> HttpResponse:
        product = object_or_404(self, request, object_id)
        return ask(
            self,
            request,
            product,
            title=f"Switch {product} off",
            will=[
                "Customers don’t see it any more, and nobody can reserve it.",
                "Who holds units of it already may still buy them. Its history stays.",
            ],
            button="Switch off",
            do=lambda data: _switch_off(product),
        )

    @action(description="Switch off", permissions=["change"])
    def switch_off_ticked(
        self, request: HttpRequest, queryset: QuerySet[Product]
    ) -> HttpResponse | None:
        return ask_for_many(
            self,
            request,
            queryset,
            action="switch_off_ticked",
            title="Switch products off",
            will=["Customers don’t see these any more, and nobody can reserve them."],
            button="Switch off",
            do=_switch_off,
        )

    def get_actions(self, request: HttpRequest) -> Any:
        actions = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions

    @action(description="Delete", permissions=["delete"])
    def delete_or_refuse(
        self, request: HttpRequest, queryset: QuerySet[Product]
    ) -> HttpResponse | None:
        """Delete those that never had any stock; the others have a history that must stay."""
        with_history = [product for product in queryset if has_history(product)]
        if with_history:
            names = ", ".join(product.sku for product in with_history)
            messages.error(
                request,
                f"Nothing was deleted: {names} can’t be, since they have reservations or stock "
                "movements, and history stays. You can switch them off instead.",
            )
            return ask_for_many(
                self,
                request,
                queryset.filter(pk__in=[product.pk for product in with_history]),
                action="switch_off_ticked",
                title="Switch them off instead?",
                will=["Customers don’t see these any more, and nobody can reserve them."],
                button="Switch off",
                do=_switch_off,
            )
        return ask_for_many(
            self,
            request,
            queryset,
            action="delete_or_refuse",
            title="Delete products",
            will=["These have never been in stock. They are deleted for good."],
            button="Delete",
            do=lambda product: self._delete(request, product),
            danger=True,
            refusals=(ProtectedError,),
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
                f"{product} can’t be deleted: it has reservations or stock movements, and history "
                "stays. You can switch it off instead.",
            )
            return HttpResponseRedirect(
                reverse("admin:inventory_product_switch_off", args=[product.pk])
            )
        return super().delete_view(request, object_id, extra_context)

    # Import and export

    def has_import_permission(self, request: HttpRequest) -> bool:
        return self.has_change_permission(request) and self.has_add_permission(request)


def _moving(
    move: Callable[..., StockMovement], product: Product, request: HttpRequest, *, opened_again: str
) -> Callable[[dict[str, Any]], str]:
    """What a form to receive or remove units does with what was filled in.

    A form sent again may mean the same units or others: nothing moves, and the page says so,
    with a link to a new form.
    """

    def do(data: dict[str, Any]) -> str:
        movement = move(
            product,
            data["units"],
            reason=Reason(data["reason"]),
            note=data["note"],
            by=who(request),
            idempotency_key=data["key"],
        )
        if movement.is_repeated:
            return NothingChanged.but(_sent_before(movement), request.path, opened_again)
        return moved(movement)

    return do


def _sent_before(movement: StockMovement) -> str:
    units = abs(movement.units)
    were = "1 unit was" if units == 1 else f"{units} units were"
    done = "received" if movement.units > 0 else "removed"
    return (
        f"This form was sent before: {were} {done} at {clock(movement.made_at)} "
        f"(movement #{movement.pk}). Nothing was {done} this time."
    )


def moved(movement: StockMovement) -> str:
    """What a movement did, in words."""
    return (
        f"{movement.product.sku}: stock {movement.stock_before} → {movement.stock_after} "
        f"({movement.get_reason_display()})."
    )


def has_history(product: Product) -> bool:
    return product.reservations.exists() or product.movements.exists() or product.alerts.exists()


def _switch_off(product: Product) -> str:
    if Product.objects.filter(pk=product.pk, is_active=True).update(is_active=False):
        return f"{product} is switched off: nobody can reserve it any more."
    return NothingChanged(f"{product} is switched off already.")
