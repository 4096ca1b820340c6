"""Products, with who holds them: buyers and addresses are the shop's, not the inventory's."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.defaultfilters import pluralize
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from unfold.decorators import action, display

from inventory.admin.base import (
    AskForm,
    NothingChanged,
    YesField,
    ask,
    change_url,
    object_or_404,
)
from inventory.admin.products import ProductAdmin
from inventory.models import Product
from shop import holders
from shop.holders import Holder, Released

MOST_HOLDERS = 100  # on a page
HAVE_NO_BUTTON = ("holders", "release_holders")  # a link beside the stock leads there

admin.site.unregister(Product)


class ReleaseForm(AskForm):
    cancel_orders = YesField(
        label="Cancel their unpaid orders, too",
        help_text="Each with all that is in it. A buyer who is just paying gets the money back.",
    )


@admin.register(Product)
class ProductWithHoldersAdmin(ProductAdmin):
    actions_detail = (*ProductAdmin.actions_detail, "holders", "release_holders")

    def fits(self, action: str, obj: Product) -> bool:
        return action not in HAVE_NO_BUTTON and super().fits(action, obj)

    @display(description="Units")
    def stock_now(self, product: Product) -> str:
        return format_html(
            '{} · <a class="link" href="{}">Holders</a>',
            super().stock_now(product),
            reverse("admin:inventory_product_holders", args=[product.pk]),
        )

    def has_see_holders_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm("inventory.view_reservation")

    def has_release_holders_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perms(["inventory.change_reservation", "shop.change_order"])

    @action(description="Holders", permissions=["see_holders"], url_path="holders")
    def holders(self, request: HttpRequest, object_id: str) -> HttpResponse:
        product = object_or_404(self, request, object_id)
        found = holders.holders_of(product)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"Holders of {product}",
            "original": product,
            "holders": found[:MOST_HOLDERS],
            "others": len(found[MOST_HOLDERS:]),
            "all_chosen": "all" in request.GET,
            "most": settings.MOST_UNITS_PER_ADDRESS,
            "may_release": self.has_release_holders_permission(request),
            "release": reverse("admin:inventory_product_release_holders", args=[product.pk]),
            "back": change_url(product),
        }
        return TemplateResponse(request, "admin/holders.html", context)

    @action(description="Release", permissions=["release_holders"], url_path="holders/release")
    def release_holders(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask, and release what the addresses hold that were ticked (``network`` in the query)."""
        product = object_or_404(self, request, object_id)
        networks = request.GET.getlist("network")
        if not networks:
            messages.error(request, "Nothing was released: choose addresses first.")
            return HttpResponseRedirect(
                reverse("admin:inventory_product_holders", args=[product.pk])
            )
        chosen = holders.holders_of(product, networks)
        will = ["Nothing is held from there any more."]
        if chosen:
            will = [*map(said_before, chosen), "Buyers lose what goes back on sale."]

        def do(data: dict[str, Any]) -> str:
            released = holders.release(
                product, networks, cancel_orders=data.get("cancel_orders", False)
            )
            return said_of(released, product)

        return ask(
            self,
            request,
            product,
            title=f"Release what is held of {product}",
            will=will,
            button="Release",
            do=do,
            form_class=ReleaseForm if any(each.units_in_orders for each in chosen) else AskForm,
            danger=True,
        )


def said_before(holder: Holder) -> str:
    """What releasing will do to what an address holds."""
    source = "Unknown addresses" if holder.network == holders.UNKNOWN else holder.network
    baskets, in_orders = holder.units_in_baskets, holder.units_in_orders
    words = f"{source}: {_units(baskets)} in baskets {pluralize(baskets, 'goes,go')} back on sale."
    if in_orders:
        words += f" {_units(in_orders)} in unpaid orders {pluralize(in_orders, 'stays,stay')} held."
    return words


def said_of(released: Released, product: Product) -> str:
    """What was done. It is logged for good, and so names no address."""
    words = (
        f"{_units(released.units)} of {product} in {released.holds} "
        f"reservation{pluralize(released.holds)} released"
    )
    if released.orders:
        words += f", {released.orders} unpaid order{pluralize(released.orders)} cancelled"
    said = f"{words}."
    return said if released.holds or released.orders else NothingChanged(said)


def _units(number: int) -> str:
    return f"{number} unit{pluralize(number)}"
