"""Orders: their facts, and the steps of staff. Each step asks first, and calls ``shop.orders``."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.db.models import QuerySet, prefetch_related_objects
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.html import format_html_join
from django.utils.safestring import SafeString, mark_safe
from unfold.contrib.filters.admin import ChoicesRadioFilter
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminDecimalFieldWidget

from inventory.admin.base import (
    EXPECTED_ERRORS,
    AskForm,
    CheckboxField,
    LineField,
    NothingChanged,
    OffersPossibleActions,
    ReadOnlyAdmin,
    UnitsField,
    ask_then_run,
    change_url,
    link_to,
    object_or_404,
    shortened,
)
from inventory.admin.filters import PeriodFilter
from inventory.words import counted
from shop import money, orders
from shop.admin.payments import (
    FactsInline,
    link_to_provider,
    links_to_disputes,
    links_to_refunds,
)
from shop.exceptions import ShopError
from shop.models import Order, OrderLine, Payment, notes_of_money
from shop.orders import customer_limits

State = Order.State
MISSING = "money missing"
OWED = "money owed"
STATE = {
    State.PENDING: "warning",
    State.PAID: "success",
    State.SHIPPED: "info",
    State.CANCELLED: "danger",
    State.REFUNDED: "danger",
    MISSING: "danger",
    OWED: "danger",
}
ORDER_ERRORS = (*EXPECTED_ERRORS, ShopError)
FITS: dict[str, Callable[[Order], bool]] = {
    "ship": lambda order: order.state == State.PAID,
    "packing_slip": lambda order: order.state in (State.PAID, State.SHIPPED),
    "refund_units": lambda order: order.state in (State.PAID, State.SHIPPED),
    "refund_amount": lambda order: order.state in (State.PAID, State.SHIPPED) and order.kept() > 0,
    "refund_all": lambda order: order.state in (State.PAID, State.SHIPPED),
    "restock": lambda order: any(line.off_sale for line in _lines(order)),
    "cancel": lambda order: order.can_be_cancelled,
    "settle": lambda order: True,
}


class LineInline(FactsInline):
    model = OrderLine
    fields = ("name", "sku", "quantity", "each", "sum", "taken_off", "units_are")
    readonly_fields = ("each", "sum", "taken_off", "units_are")

    def get_queryset(self, request: HttpRequest) -> QuerySet[OrderLine]:
        return super().get_queryset(request).select_related("reservation", "order")

    @display(description="Each")
    def each(self, line: OrderLine) -> str:
        return _money(line.order, line.unit_price)

    @display(description="Total")
    def sum(self, line: OrderLine) -> str:
        return _money(line.order, line.total)

    @display(description="Taken off the order")
    def taken_off(self, line: OrderLine) -> int:
        """The units refunded, or cancelled; their money may have gone to others, or be owed."""
        return line.refunded

    @display(description="Units are")
    def units_are(self, line: OrderLine) -> str:
        status = line.reservation.get_status_display()
        if line.reservation.returned:
            status += f", {line.reservation.returned} on sale again"
        if line.reservation.written_off:
            status += f", {line.reservation.written_off} written off"
        return link_to(line.reservation, status)


class PaymentInline(FactsInline):
    model = Payment
    fields = (
        "link",
        "charged",
        "state",
        "started_at",
        "decided_at",
        "refunds_of_it",
        "disputes_of_it",
        "at_provider",
    )
    readonly_fields = ("link", "charged", "refunds_of_it", "disputes_of_it", "at_provider")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Payment]:
        return super().get_queryset(request).prefetch_related("refunds", "disputes")

    @display(description="Payment")
    def link(self, payment: Payment) -> str:
        return link_to(payment, shortened(str(payment.key)))

    @display(description="Amount")
    def charged(self, payment: Payment) -> str:
        return money.format_amount(payment.amount, payment.currency)

    @display(description="Refunds")
    def refunds_of_it(self, payment: Payment) -> str:
        return links_to_refunds(payment)

    @display(description="Disputes")
    def disputes_of_it(self, payment: Payment) -> str:
        return links_to_disputes(payment)

    @display(description="In the provider’s dashboard")
    def at_provider(self, payment: Payment) -> str:
        return link_to_provider(payment)


class ShipForm(AskForm):
    tracking = LineField(
        label="Tracking reference", required=False, max_length=100, help_text="The carrier’s."
    )


class AmountForm(AskForm):
    amount = forms.DecimalField(
        min_value=Decimal("0.01"),
        max_digits=12,
        decimal_places=2,
        widget=UnfoldAdminDecimalFieldWidget(),
    )
    note = LineField(required=False, help_text="For the record; the buyer doesn’t see it.")
    seen = forms.DecimalField(widget=forms.HiddenInput())


def refund_form(lines: list[OrderLine]) -> type[AskForm]:
    """A form that asks how many units of each line are refunded."""
    fields = {
        **_fields_of_units(lines, {line.pk: line.left for line in lines}),
        "restock": CheckboxField(
            label="Put the units back on sale",
            help_text="Leave this off if the goods are broken or not back yet. You can put "
            "them on sale later.",
        ),
        "note": LineField(required=False),
        "seen": forms.DecimalField(widget=forms.HiddenInput()),
        "seen_units": forms.IntegerField(widget=forms.HiddenInput()),
    }
    return type("RefundForm", (AskForm,), fields)


def restock_form(lines: list[OrderLine]) -> type[AskForm]:
    """A form that asks how many units of each line go back on sale."""
    fields = {
        **_fields_of_units(lines, {line.pk: line.off_sale for line in lines}),
        "seen_units": forms.IntegerField(widget=forms.HiddenInput()),
    }
    return type("RestockForm", (AskForm,), fields)


def _fields_of_units(lines: list[OrderLine], left: dict[int, int]) -> dict[str, Any]:
    currency = lines[0].order.currency if lines else ""
    return {
        f"line_{line.pk}": UnitsField(
            label=f"{line.name} ({line.sku})",
            min_value=0,
            max_value=left[line.pk],
            required=False,
            initial=0,
            help_text=f"Units, of {left[line.pk]} left, sold at "
            f"{money.format_amount(line.unit_price, currency)} each.",
        )
        for line in lines
        if left[line.pk]
    }


def _units_asked_for(data: dict[str, Any]) -> dict[int, int]:
    """The units of each line that the form's fields ask for."""
    return {
        int(name.removeprefix("line_")): number
        for name, number in data.items()
        if name.startswith("line_") and number
    }


def _lines(order: Order) -> list[OrderLine]:
    return list(order.lines.select_related("reservation"))


@admin.register(Order)
class OrderAdmin(OffersPossibleActions, ReadOnlyAdmin):
    list_display = ("number_and_name", "placed_at", "price", "shown_state")
    list_filter = (("state", ChoicesRadioFilter), ("placed_at", PeriodFilter))
    search_fields = ("number",)
    search_help_text = "Number, e-mail address, or part of the name"
    ordering = ("-placed_at", "-pk")
    inlines = (LineInline, PaymentInline)
    actions = ("packing_slips",)
    actions_detail = (
        "ship",
        "packing_slip",
        "refund_units",
        "refund_amount",
        "refund_all",
        "restock",
        "cancel",
        "settle",
    )
    fields = (
        ("number", "state_in_words", "placed_at"),
        ("name", "email", "shown_address"),
        *Order.further_fields(),
        ("price", "shipping", "paid"),
        ("given_back", "owed", "disputed", "money_kept"),
        ("tracking", "paid_at", "shipped_at", "closed_at"),
    )
    readonly_fields = (
        "state_in_words",
        "address",
        "price",
        "shipping",
        "paid",
        "given_back",
        "owed",
        "disputed",
        "money_kept",
        "money_is_missing",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Order]:
        """Note where money may be missing or is owed: only for these orders it is counted."""
        orders_of_page = super().get_queryset(request)
        return orders_of_page.annotate(**notes_of_money())

    def get_fields(self, request: HttpRequest, obj: Order | None = None) -> Any:
        warning = ["money_is_missing"] if obj is not None and obj.missing() else []
        return [*warning, *self.fields]

    @display(description="Look before you send anything")
    def money_is_missing(self, order: Order) -> str:
        return _missing_text(order)

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        """The newest first; orders to ship with the oldest first."""
        to_ship = request.GET.get("state__exact") == State.PAID
        return ("placed_at", "pk") if to_ship else self.ordering

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Order], search_term: str
    ) -> tuple[QuerySet[Order], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        by_number = queryset.filter(number=term.upper())
        if by_number.exists():
            return by_number, False
        if "@" in term:
            return queryset.filter(email_key=customer_limits.email_key(term)), False
        return queryset.filter(name__icontains=term), False

    @display(description="Order", header=True, ordering="number")
    def number_and_name(self, order: Order) -> list[str]:
        return [order.number, f"{order.name}, {order.email}"]

    @display(description="Address")
    def shown_address(self, order: Order) -> SafeString:
        """The address as on a parcel."""
        return format_html_join(
            mark_safe("<br>"), "{}", ([line] for line in order.address.splitlines())
        )

    @display(description="Total", ordering="total")
    def price(self, order: Order) -> str:
        return _money(order, order.total)

    @display(description="State", label=STATE)
    def shown_state(self, order: Order) -> tuple[str, str]:
        # The list's query says for which orders the sums are worth a look.
        missing = order.missing() if getattr(order, "may_miss_money", False) else Decimal(0)
        owed = order.owed() if getattr(order, "owes_money", False) else Decimal(0)
        shown = MISSING if missing else OWED if owed else order.state
        return shown, _state_text(order, missing, owed)

    @display(description="State")
    def state_in_words(self, order: Order) -> str:
        return _state_text(order, Decimal(0), order.owed())

    @display(description="Of that, shipping")
    def shipping(self, order: Order) -> str:
        return _money(order, order.shipping_cost)

    @display(description="Paid")
    def paid(self, order: Order) -> str:
        return _money(order, order.paid())

    @display(description="Given back")
    def given_back(self, order: Order) -> str:
        return _money(order, order.given_back())

    @display(description="Owed to the buyer")
    def owed(self, order: Order) -> str:
        return _money(order, order.owed())

    @display(description="Taken by disputes")
    def disputed(self, order: Order) -> str:
        return _money(order, order.disputed())

    @display(description="Kept")
    def money_kept(self, order: Order) -> str:
        return _money(order, order.kept())

    # Steps of staff

    def offers_action(self, action: str, obj: Order) -> bool:
        return FITS[action](obj)

    def has_fulfil_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm("shop.change_order")

    def has_refund_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm("shop.add_refund")

    @action(
        description="Ship",
        icon="local_shipping",
        permissions=["fulfil"],
        url_path="ship",
        variant=ActionVariant.PRIMARY,
    )
    def ship(self, request: HttpRequest, object_id: str) -> HttpResponse:
        order = object_or_404(self, request, object_id)

        def run(data: dict[str, Any]) -> str:
            shipped = orders.ship(order.pk, data["tracking"])
            if order.state == State.SHIPPED:
                return NothingChanged(
                    f"Order {shipped.number} was shipped before, and its buyer has an e-mail. "
                    "Nothing was done this time."
                )
            return f"Order {shipped.number} is shipped. {shipped.email} gets an e-mail."

        return ask_then_run(
            self,
            request,
            order,
            title=f"Mark order {order.number} as shipped",
            consequences=[
                *([_missing_text(order)] if order.missing() else []),
                f"{order.email} gets an e-mail that it is on its way.",
                "It can’t be cancelled then, only refunded.",
            ],
            button="Mark as shipped",
            run=run,
            danger=order.missing() > 0,
            form_class=ShipForm,
            expected_errors=ORDER_ERRORS,
        )

    @action(description="Packing slip", icon="print", permissions=["view"], url_path="packing-slip")
    def packing_slip(self, request: HttpRequest, object_id: str) -> HttpResponse:
        order = object_or_404(self, request, object_id)
        return _packing_slips(request, [order], back=change_url(order))

    @action(description="Packing slips", permissions=["view"])
    def packing_slips(self, request: HttpRequest, queryset: QuerySet[Order]) -> HttpResponse:
        """One page each, in the order of the list."""
        return _packing_slips(request, list(queryset), back=request.get_full_path())

    @action(description="Refund units", permissions=["refund"], url_path="refund-units")
    def refund_units(self, request: HttpRequest, object_id: str) -> HttpResponse:
        order = object_or_404(self, request, object_id)

        def run(data: dict[str, Any]) -> str:
            return _refund(
                order,
                units=_units_asked_for(data),
                restock=data["restock"],
                note=data["note"],
                seen=data["seen"],
                seen_units=data["seen_units"],
            )

        return ask_then_run(
            self,
            request,
            order,
            title=f"Refund units of order {order.number}",
            consequences=[
                f"Their price goes back to the buyer, of the {_money(order, order.kept())} kept. "
                "With the last units goes the shipping cost, "
                f"{_money(order, order.shipping_cost)}.",
                "They no longer count against a limit per customer, so the buyer can order others "
                "instead.",
                f"{order.email} gets an e-mail if money goes back.",
                *_dispute_consequences(order, "the price of these units"),
            ],
            button="Refund",
            run=run,
            form_class=refund_form(_lines(order)),
            initial=_seen(order),
            danger=True,
            expected_errors=ORDER_ERRORS,
        )

    @action(
        description="Refund an amount",
        permissions=["refund"],
        url_path="refund-amount",
    )
    def refund_amount(self, request: HttpRequest, object_id: str) -> HttpResponse:
        order = object_or_404(self, request, object_id)
        return ask_then_run(
            self,
            request,
            order,
            title=f"Refund an amount of order {order.number}",
            consequences=[
                f"It goes back to the buyer, of the {_money(order, order.kept())} kept. It is for "
                "no units in particular: all stay sold, and count against a limit per customer.",
                f"{order.email} gets an e-mail.",
            ],
            button="Refund",
            run=lambda data: _refund(
                order, amount=data["amount"], note=data["note"], seen=data["seen"]
            ),
            form_class=AmountForm,
            initial={"seen": order.refunded()},
            danger=True,
            expected_errors=ORDER_ERRORS,
        )

    @action(
        description="Refund all",
        permissions=["refund"],
        url_path="refund-all",
    )
    def refund_all(self, request: HttpRequest, object_id: str) -> HttpResponse:
        order = object_or_404(self, request, object_id)
        return ask_then_run(
            self,
            request,
            order,
            title=f"Refund all of order {order.number}",
            consequences=[
                f"The buyer gives back all units, and gets all the money that you kept, "
                f"{_money(order, order.kept())}.",
                f"{order.email} gets an e-mail if money goes back.",
                *_dispute_consequences(order, "the rest of the price"),
            ],
            button="Refund all",
            run=lambda data: _refund(
                order,
                restock=data["restock"],
                note=data["note"],
                seen=data["seen"],
                seen_units=data["seen_units"],
            ),
            form_class=refund_form([]),
            initial=_seen(order),
            danger=True,
            expected_errors=ORDER_ERRORS,
        )

    @action(description="Put units back on sale", permissions=["refund"], url_path="restock")
    def restock(self, request: HttpRequest, object_id: str) -> HttpResponse:
        order = object_or_404(self, request, object_id)

        def run(data: dict[str, Any]) -> str:
            units = _units_asked_for(data)
            orders.restock(order.pk, units, seen_units=data["seen_units"])
            number, name = sum(units.values()), order.number
            back = counted(number, f"unit of order {name} is", f"units of order {name} are")
            return f"{back} on sale again."

        return ask_then_run(
            self,
            request,
            order,
            title=f"Put units of order {order.number} back on sale",
            consequences=[
                "These units were taken off the order, and they are not on sale.",
                "No money moves. Don’t receive the same units as a delivery, too.",
            ],
            button="Put on sale",
            run=run,
            form_class=restock_form(_lines(order)),
            initial={"seen_units": order.returned_units()},
            expected_errors=ORDER_ERRORS,
        )

    @action(
        description="Cancel",
        permissions=["fulfil", "refund"],
        url_path="cancel",
    )
    def cancel(self, request: HttpRequest, object_id: str) -> HttpResponse:
        order = object_or_404(self, request, object_id)
        kept = order.kept()
        consequences = ["Its units go back on sale."]
        if kept:
            consequences.append(
                f"The money that you kept, {_money(order, kept)}, goes back to the buyer."
            )
        elif not order.is_open and not order.disputed():
            consequences.append("There is no money left to give back.")
        if order.is_open:
            consequences.append("If a payment still arrives, it goes back.")
        back = order.back_if_won()
        consequences += _dispute_consequences(order, f"{_money(order, back)} of it" if back else "")

        def run(data: dict[str, Any]) -> str:
            was = Order.objects.get(pk=order.pk)
            now = orders.cancel(order.pk, by=orders.CancelledBy.STAFF)
            if was.state == now.state:
                return NothingChanged(
                    f"Order {now.number} was {now.get_state_display()} already; nothing was done "
                    "this time."
                )
            back = now.refunded() - was.refunded()
            if not back:
                return f"Order {now.number} is cancelled."
            return f"Order {now.number} is cancelled; {_money(now, back)} go back."

        return ask_then_run(
            self,
            request,
            order,
            title=f"Cancel order {order.number}",
            consequences=consequences,
            button="Cancel the order",
            run=run,
            danger=True,
            expected_errors=ORDER_ERRORS,
        )

    @action(description="Settle again", permissions=["fulfil"], url_path="settle")
    def settle(self, request: HttpRequest, object_id: str) -> HttpResponse:
        order = object_or_404(self, request, object_id)

        def run(data: dict[str, Any]) -> str:
            settled = orders.settle(order.pk)
            words = f"Order {settled.number} is {settled.get_state_display()}"
            if settled.state == order.state:
                return NothingChanged(f"{words}, as before.")
            return f"{words}."

        return ask_then_run(
            self,
            request,
            order,
            title=f"Settle order {order.number} again",
            consequences=[
                "This asks the payment provider how the order’s payments ended, and acts on the "
                "answer: a payment is kept only with the goods. The worker does the same every "
                "minute."
            ],
            button="Ask the provider",
            run=run,
            expected_errors=ORDER_ERRORS,
        )


def _packing_slips(request: HttpRequest, chosen: list[Order], *, back: str) -> HttpResponse:
    prefetch_related_objects(chosen, "lines")
    for order in chosen:
        order.not_to_send = _why_not_to_send(order)  # type: ignore[attr-defined]
    context = {
        "orders": chosen,
        "title": f"Packing slip {', '.join(order.number for order in chosen)}",
        "shop_name": settings.SHOP_NAME,
        "shop_address": settings.SHOP_ADDRESS,
        "back": back,
    }
    return TemplateResponse(request, "admin/packing_slips.html", context)


def _why_not_to_send(order: Order) -> str:
    """The reason in words; empty if the order can be sent."""
    if order.state == State.PAID:
        return _missing_text(order) if order.missing() else ""
    if order.state == State.SHIPPED:
        return f"This order was shipped already, on {order.shipped_at:%Y-%m-%d}."
    return f"This order is {order.get_state_display()}: send nothing."


def _missing_text(order: Order) -> str:
    """That less is kept than the units are worth, and why."""
    text = (
        f"The money for this order is not all here: its units are worth "
        f"{_money(order, order.worth())}, and {_money(order, order.kept())} are kept."
    )
    if order.disputed():
        text += f" The buyer’s bank has taken {_money(order, order.disputed())}."
    if order.refunded_at_provider():
        given = _money(order, order.refunded_at_provider())
        text += f" Refunds of {given} were made at the provider."
    return f"{text} Decide whether the buyer shall get the goods before you send anything."


def _dispute_consequences(order: Order, back_if_won: str) -> list[str]:
    """A sentence if the buyer's bank has money of the order: it may go back later."""
    if not order.disputed():
        return []
    text = f"The buyer’s bank has taken {_money(order, order.disputed())} by a dispute."
    if back_if_won and order.back_if_won():
        text += f" If it is decided for you, {back_if_won} goes back to the buyer by itself."
    return [text]


def _state_text(order: Order, missing: Decimal, owed: Decimal) -> str:
    words = [order.get_state_display()]
    if missing:
        words.append(f"{_money(order, missing)} missing")
    if owed:
        words.append(f"{_money(order, owed)} owed to the buyer")
    return ", ".join(words)


def _seen(order: Order) -> dict[str, Any]:
    return {"seen": order.refunded(), "seen_units": order.refunded_units()}


def _refund(order: Order, **how: Any) -> str:
    refunded = orders.refund(order.pk, **how)
    back = refunded.refunded() - how["seen"]
    units = refunded.refunded_units() - how.get("seen_units", refunded.refunded_units())
    words = f"{_money(order, back)} of order {order.number} go back to the buyer"
    if not back:
        words = f"No money of order {order.number} was left to give back"
    if units:
        words += f" for {counted(units, 'unit; the unit is', 'units; the units are')}"
        words += " on sale again" if how["restock"] else " not on sale"
    return f"{words}."


def _money(order: Order, amount: Decimal) -> str:
    return money.format_amount(amount, order.currency)
