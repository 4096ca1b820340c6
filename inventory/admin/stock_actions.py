"""Actions on the stock of a product: receive, remove, repair, and its history."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.text import capfirst
from unfold.decorators import action
from unfold.enums import ActionVariant

from inventory import monitor, stock, timeline
from inventory.admin.base import (
    AskForm,
    LineField,
    NothingChanged,
    OffersPossibleActions,
    OnceForm,
    SelectField,
    UnitsField,
    ask_then_run,
    change_url,
    date_and_time,
    object_or_404,
    user_of,
)
from inventory.law import LAW
from inventory.models import Product, StockMovement
from inventory.words import counted

Reason = StockMovement.Reason
ENTRIES = 50  # of the stock history on a page


class StockActions(OffersPossibleActions):
    """The pages that move the stock of a product or show its history."""

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

        return ask_then_run(
            self,
            request,
            product,
            title=f"Receive units of {product}",
            consequences=[
                f"{product.sku} has {product.stock} available now.",
                "The units that you receive are added to its stock, and are on sale at once.",
            ],
            button="Receive",
            run=_move_of_form(stock.receive, product, request, opened_again="Receive again"),
            form_class=ReceiveForm,
        )

    @action(description="Remove", permissions=["move"], url_path="remove")
    def remove_units(self, request: HttpRequest, object_id: str) -> HttpResponse:
        product = object_or_404(self, request, object_id)

        return ask_then_run(
            self,
            request,
            product,
            title=f"Remove units of {product}",
            consequences=[
                f"{product.sku} has {product.stock} available now.",
                "You can remove only available units. Held and sold units stay.",
            ],
            button="Remove",
            run=_move_of_form(stock.remove, product, request, opened_again="Remove again"),
            form_class=RemoveForm,
            danger=True,
        )

    @action(description="Repair", permissions=["move"], url_path="repair")
    def repair_count(self, request: HttpRequest, object_id: str) -> HttpResponse:
        product = object_or_404(self, request, object_id)
        state = monitor.state_of(product.pk)
        right = state.right_stock
        consequences = [
            f"Stock will be set to received − held − sold: {state.available} → {right} for now."
        ]
        if state.drift == 0:
            consequences = [f"{capfirst(LAW)}. There is nothing to repair."]
        elif right < 0:
            one = "promised unit doesn’t exist"
            many = "promised units don’t exist"
            consequences.append(
                f"{counted(-right, one, many)}. The product stays oversold until you receive units "
                "or cancel orders."
            )

        def run(data: dict[str, Any]) -> str:
            movement = stock.repair(product, note=data["note"], by=user_of(request))
            if movement is None:
                return NothingChanged(
                    f"{product.sku}: the count was right already, and nothing was repaired."
                )
            return movement_in_words(movement)

        return ask_then_run(
            self,
            request,
            product,
            title=f"Repair the count of {product}",
            consequences=consequences,
            button="Repair",
            run=run,
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
        before = timeline.read_position(request.GET.get("before", ""))
        entries = timeline.entries_of(product.pk, before=before, limit=ENTRIES)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"Stock history of {product}",
            "original": product,
            "entries": entries,
            "before": before,
            "older": str(entries[-1].position) if len(entries) == ENTRIES else "",
            "back": change_url(product),
        }
        return TemplateResponse(request, "admin/inventory/stock_history.html", context)


class ReceiveForm(OnceForm):
    units = UnitsField(label="Units received")
    reason = SelectField(
        choices=[
            (each.value, each.label) for each in (Reason.DELIVERY, Reason.STOCKTAKE, Reason.OTHER)
        ]
    )
    note = LineField(required=False, help_text="Such as the number of the delivery note.")


class RemoveForm(OnceForm):
    units = UnitsField(label="Units removed")
    reason = SelectField(
        choices=[
            (each.value, each.label)
            for each in (Reason.DAMAGE, Reason.STOCKTAKE, Reason.SENT_BACK, Reason.OTHER)
        ]
    )
    note = LineField(required=False)


class RepairForm(AskForm):
    note = LineField(required=False, help_text="The cause, as far as you know it.")


def _move_of_form(
    move: Callable[..., StockMovement], product: Product, request: HttpRequest, *, opened_again: str
) -> Callable[[dict[str, Any]], str]:
    """The function that moves the units of a form to receive or remove units.

    When a browser sends the form again, that may mean the same units or more. So nothing moves,
    and the page says so, with a link to a new form.
    """

    def run(data: dict[str, Any]) -> str:
        movement = move(
            product,
            data["units"],
            reason=Reason(data["reason"]),
            note=data["note"],
            by=user_of(request),
            idempotency_key=data["key"],
        )
        if movement.is_repeated:
            return NothingChanged.with_link(
                _already_sent_warning(movement), request.path, opened_again
            )
        return movement_in_words(movement)

    return run


def _already_sent_warning(movement: StockMovement) -> str:
    units = abs(movement.units)
    were = counted(units, "unit was", "units were")
    done = "received" if movement.units > 0 else "removed"
    return (
        f"This form was sent before: {were} {done} at {date_and_time(movement.made_at)} "
        f"(movement #{movement.pk}). Nothing was {done} this time."
    )


def movement_in_words(movement: StockMovement) -> str:
    """The product, its stock before and after the movement, and the reason."""
    return (
        f"{movement.product.sku}: stock {movement.stock_before} → {movement.stock_after} "
        f"({movement.get_reason_display()})."
    )
