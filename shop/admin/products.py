"""Products, with the holders of their units: only the shop knows buyers and addresses."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from unfold.decorators import action, display
from unfold.enums import ActionVariant

from inventory import monitor
from inventory.admin.base import (
    EXPECTED_ERRORS,
    AskForm,
    CheckboxField,
    NothingChanged,
    add_messages,
    ask_then_run,
    change_url,
    object_or_404,
)
from inventory.admin.products import ProductAdmin
from inventory.models import Product, Reservation
from inventory.words import counted
from shop import holders
from shop.deployment.media_files import FileNotStored
from shop.exceptions import ShopError
from shop.holders import Holder, Released
from shop.orders import rescue
from shop.payments.base import ProviderUnavailable

MOST_HOLDERS = 100  # on a page
NOT_WITHDRAWN: tuple[type[Exception], ...] = (
    *EXPECTED_ERRORS,
    ShopError,
    ProviderUnavailable,
    Reservation.DoesNotExist,
)
HAVE_NO_BUTTON = ("holders", "release_holders")  # a link beside the stock leads there

admin.site.unregister(Product)


class ReleaseForm(AskForm):
    cancel_orders = CheckboxField(
        label="Cancel their unpaid orders, too",
        help_text="This cancels these orders whole. A buyer who is paying gets the money back.",
    )


@admin.register(Product)
class ProductWithHoldersAdmin(ProductAdmin):
    actions_detail = (*ProductAdmin.actions_detail, "holders", "release_holders", "rescue")

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Show the form again, with the reason, if the picture can't be stored."""
        try:
            return super().changeform_view(request, *args, **kwargs)
        except FileNotStored as error:  # all that was written to the database is taken back
            request.not_stored = str(error)  # type: ignore[attr-defined]
            return super().changeform_view(request, *args, **kwargs)

    def get_form(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        form = super().get_form(request, *args, **kwargs)
        if not hasattr(request, "not_stored"):
            return form

        class WithError(form):  # type: ignore[misc, valid-type]
            def clean_picture(self) -> None:
                raise ValidationError(request.not_stored)  # type: ignore[attr-defined]

        return WithError

    def offers_action(self, action: str, obj: Product) -> bool:
        if action == "rescue":
            return monitor.state_of(obj.pk).oversold > 0
        return action not in HAVE_NO_BUTTON and super().offers_action(action, obj)

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
        """Ask, and release the holds of the ticked addresses (``network`` in the query)."""
        product = object_or_404(self, request, object_id)
        networks = request.GET.getlist("network")
        if not networks:
            messages.error(request, "Nothing was released: choose addresses first.")
            return HttpResponseRedirect(
                reverse("admin:inventory_product_holders", args=[product.pk])
            )
        chosen = holders.holders_of(product, networks)
        consequences = ["These addresses hold nothing any more."]
        if chosen:
            consequences = [
                *map(said_before, chosen),
                "Buyers lose the units that go back on sale.",
            ]

        def run(data: dict[str, Any]) -> str:
            released = holders.release(
                product, networks, cancel_orders=data.get("cancel_orders", False)
            )
            return said_of(released, product)

        return ask_then_run(
            self,
            request,
            product,
            title=f"Release what is held of {product}",
            consequences=consequences,
            button="Release",
            run=run,
            form_class=ReleaseForm if any(each.units_in_orders for each in chosen) else AskForm,
            danger=True,
        )

    def has_rescue_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perms(
            ["inventory.change_reservation", "shop.change_order", "shop.add_refund"]
        )

    @action(
        description="Oversold: choose the promises to withdraw",
        icon="emergency",
        permissions=["rescue"],
        url_path="rescue",
        variant=ActionVariant.DANGER,
    )
    def rescue(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """List the promises that can be withdrawn; on POST, withdraw the ticked ones."""
        product = object_or_404(self, request, object_id)
        if request.method == "POST":
            self._withdraw(request, product)
            return HttpResponseRedirect(request.path)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"Promises of {product} that can’t be kept",
            "original": product,
            "oversell": rescue.find_oversell(product),
            "most": rescue.MOST,
            "back": change_url(product),
        }
        return TemplateResponse(request, "admin/rescue.html", context)

    def _withdraw(self, request: HttpRequest, product: Product) -> None:
        """Withdraw one promise after the other. Show and log each success, and show each error."""
        ticked = _ticked(request)
        if not ticked:
            messages.error(request, "Nothing was done: first tick the promises to withdraw.")
        done, refused = [], []
        for reservation_id, seen in ticked:
            try:
                done.append(rescue.withdraw(reservation_id, seen=seen))
            except NOT_WITHDRAWN as error:
                refused.append(f"{str(reservation_id)[:8]}: {error}")
                continue
            self.log_change(request, product, done[-1])
        add_messages(request, messages.SUCCESS, done)
        add_messages(request, messages.ERROR, refused)


def _ticked(request: HttpRequest) -> list[tuple[UUID, int]]:
    """The ticked promises of the form with the units that it showed, the last ones first."""
    ticked = []
    for value in request.POST.getlist("promise"):
        with suppress(ValueError):
            reservation_id, _, seen = value.partition(":")
            ticked.append((UUID(reservation_id), int(seen)))
    return ticked


def said_before(holder: Holder) -> str:
    """The effect that releasing will have on an address's holds."""
    source = "Unknown addresses" if holder.network == holders.UNKNOWN else holder.network
    baskets, in_orders = holder.units_in_baskets, holder.units_in_orders
    go = counted(baskets, "unit in baskets goes", "units in baskets go")
    words = f"{source}: {go} back on sale."
    if in_orders:
        stay = counted(in_orders, "unit in unpaid orders stays", "units in unpaid orders stay")
        words += f" {stay} held."
    return words


def said_of(released: Released, product: Product) -> str:
    """The steps that were done. The log keeps this for good, so it names no address."""
    words = (
        f"{counted(released.units, 'unit')} of {product} in "
        f"{counted(released.holds, 'reservation')} released"
    )
    if released.orders:
        words += f", {counted(released.orders, 'unpaid order')} cancelled"
    said = f"{words}."
    return said if released.holds or released.orders else NothingChanged(said)
