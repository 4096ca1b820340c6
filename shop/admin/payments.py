"""Payments and refunds: their facts, and another try at the provider."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesRadioFilter
from unfold.decorators import action, display

from inventory.admin.base import (
    EXPECTED_ERRORS,
    AskForm,
    LineField,
    NothingChanged,
    OffersPossibleActions,
    ReadOnlyAdmin,
    ask_then_run,
    link_to,
    object_or_404,
    shortened,
)
from inventory.admin.filters import PeriodFilter
from shop.exceptions import ShopError
from shop.models import Order, Payment, Refund
from shop.money import format_amount
from shop.orders import refunds
from shop.payments import known_slugs as known_providers
from shop.payments.base import RefundDeclined

PAYMENT_STATE = {
    Payment.State.STARTED: "warning",
    Payment.State.PAID: "success",
    Payment.State.DECLINED: "danger",
}
REFUND_STATE = {
    Refund.State.DUE: "warning",
    Refund.State.DONE: "success",
    Refund.State.FAILED: "danger",
    Refund.State.UNDONE: "danger",
}


def links_to_refunds(payment: Payment) -> SafeString | str:
    links = [
        link_to(
            refund,
            f"{format_amount(refund.amount, payment.currency)}, {refund.get_state_display()}",
        )
        for refund in payment.refunds.all()
    ]
    return format_html_join("; ", "{}", ((link,) for link in links)) or "none"


@admin.register(Payment)
class PaymentAdmin(ReadOnlyAdmin):
    list_display = ("short_key", "order_link", "money", "shown_state", "started_at", "decided_at")
    list_select_related = ("order",)
    list_filter = (("state", ChoicesRadioFilter), ("started_at", PeriodFilter))
    search_fields = ("order__number",)
    search_help_text = "The order’s number, the provider’s reference or our key, in full"
    ordering = ("-pk",)
    fields = (
        ("order_link", "state", "money"),
        ("provider", "shown_reference", "short_key", "page_link"),
        ("started_at", "expires_at", "decided_at"),
        "refunds_of_it",
    )
    readonly_fields = (
        "order_link",
        "state",
        "money",
        "shown_reference",
        "short_key",
        "page_link",
        "refunds_of_it",
    )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Payment], search_term: str
    ) -> tuple[QuerySet[Payment], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        order = Order.objects.filter(number=term.upper()).first()
        if order is not None:
            return queryset.filter(order=order), False
        try:
            return queryset.filter(key=UUID(term)), False
        except ValueError:
            # The index of references starts with the provider.
            return queryset.filter(provider__in=known_providers(), reference=term), False

    @display(description="Payment")
    def short_key(self, payment: Payment) -> str:
        return shortened(str(payment.key))

    @display(description="Provider’s reference")
    def shown_reference(self, payment: Payment) -> str:
        """The reference, shortened: at the demo bank anybody who knows it can pay or decline."""
        return shortened(payment.reference)

    @display(description="In the provider’s dashboard")
    def page_link(self, payment: Payment) -> str:
        if not payment.provider_page:
            return "unknown"
        return format_html('<a class="link" href="{}">See it there</a>', payment.provider_page)

    @display(description="Order")
    def order_link(self, payment: Payment) -> str:
        return link_to(payment.order, payment.order.number)

    @display(description="Refunds")
    def refunds_of_it(self, payment: Payment) -> str:
        return links_to_refunds(payment)

    @display(description="Amount", ordering="amount")
    def money(self, payment: Payment) -> str:
        return format_amount(payment.amount, payment.currency)

    @display(description="State", label=PAYMENT_STATE)
    def shown_state(self, payment: Payment) -> tuple[str, str]:
        return payment.state, payment.get_state_display()


class ByHandForm(AskForm):
    how = LineField(label="How", help_text="Such as: bank transfer of 1 May. For the record.")


@admin.register(Refund)
class RefundAdmin(OffersPossibleActions, ReadOnlyAdmin):
    list_display = ("key_of_it", "order_link", "money", "shown_state", "reason", "decided_at")
    list_display_links = ("key_of_it",)
    list_select_related = ("payment__order",)
    list_filter = (("state", ChoicesRadioFilter), ("reason", ChoicesRadioFilter))
    search_fields = ("payment__order__number",)
    search_help_text = "The order’s number, in full"
    ordering = ("-pk",)
    actions_detail = ("carry_out", "note_by_hand")
    fields = (
        ("order_link", "payment_link", "state", "money"),
        ("reason", "note"),
        "problem",
        "by_hand",
        ("decided_at", "carried_out_at"),
    )
    readonly_fields = ("order_link", "payment_link", "state", "money")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Refund], search_term: str
    ) -> tuple[QuerySet[Refund], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        payments = Payment.objects.filter(order__number=term.upper())
        return queryset.filter(payment__in=payments), False

    @display(description="Refund")
    def key_of_it(self, refund: Refund) -> str:
        return f"#{refund.pk}"

    @display(description="Order")
    def order_link(self, refund: Refund) -> str:
        order = refund.payment.order
        return link_to(order, order.number)

    @display(description="Payment")
    def payment_link(self, refund: Refund) -> str:
        return link_to(refund.payment)

    @display(description="Amount", ordering="amount")
    def money(self, refund: Refund) -> str:
        return format_amount(refund.amount, refund.payment.currency)

    @display(description="State", label=REFUND_STATE)
    def shown_state(self, refund: Refund) -> tuple[str, str]:
        return refund.state, refund.get_state_display()

    def offers_action(self, action: str, obj: Refund) -> bool:
        if action == "note_by_hand":
            return obj.state == Refund.State.FAILED
        return obj.state != Refund.State.DONE

    def has_refund_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm("shop.add_refund")

    @action(description="Try now", icon="sync", permissions=["refund"], url_path="carry-out")
    def carry_out(self, request: HttpRequest, object_id: str) -> HttpResponse:
        refund = object_or_404(self, request, object_id)

        def run(data: dict[str, Any]) -> str:
            tried = refunds.carry_out(refund.pk)
            if tried.state == Refund.State.FAILED:
                raise RefundDeclined(f"The provider declined it: {tried.problem}")
            money = format_amount(tried.amount, tried.payment.currency)
            if refund.state == Refund.State.DONE:
                return NothingChanged(
                    f"{money} were given back before; nothing was done this time."
                )
            return f"{money}: {tried.get_state_display()}."

        return ask_then_run(
            self,
            request,
            refund,
            title=f"Carry refund #{refund.pk} out now",
            consequences=[
                "This asks the provider to give the money back. The provider does so only once, "
                "however often you ask. A finished refund stays as it is."
            ],
            button="Try now",
            run=run,
            expected_errors=(*EXPECTED_ERRORS, ShopError),
        )

    @action(description="Given back by hand", permissions=["refund"], url_path="by-hand")
    def note_by_hand(self, request: HttpRequest, object_id: str) -> HttpResponse:
        refund = object_or_404(self, request, object_id)
        money = format_amount(refund.amount, refund.payment.currency)

        def run(data: dict[str, Any]) -> str:
            noted = refunds.record_by_hand(refund.pk, data["how"])
            if refund.by_hand:
                return NothingChanged(
                    f"It was noted before that {money} were given back by hand: {noted.by_hand}."
                )
            return f"{money} were given back by hand: {noted.by_hand}."

        return ask_then_run(
            self,
            request,
            refund,
            title=f"Note that {money} were given back by hand",
            consequences=[
                "This moves no money: give it back first, by bank transfer for instance.",
                "Nobody asks the provider again, and the buyer gets an e-mail.",
            ],
            button="Note it",
            run=run,
            form_class=ByHandForm,
            expected_errors=(*EXPECTED_ERRORS, ShopError),
        )
