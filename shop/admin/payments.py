"""Payments, refunds and disputes: their facts, and another question to the provider."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.formats import localize
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.timezone import localtime
from unfold.admin import TabularInline
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
from shop.models import Dispute, Order, Payment, PaymentEvent, Refund
from shop.money import format_amount
from shop.orders import refunds, statements
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


DISPUTE_STATE = {
    Dispute.State.INQUIRY: "warning",
    Dispute.State.OPEN: "warning",
    Dispute.State.WON: "success",
    Dispute.State.LOST: "danger",
}


def links_to_refunds(payment: Payment) -> SafeString | str:
    return _links(payment, payment.refunds.all())


def links_to_disputes(payment: Payment) -> SafeString | str:
    return _links(payment, payment.disputes.all())


def _links(payment: Payment, rows: Iterable[Refund | Dispute]) -> SafeString | str:
    links = [
        link_to(row, f"{format_amount(row.amount, payment.currency)}, {row.get_state_display()}")
        for row in rows
    ]
    return format_html_join("; ", "{}", ((link,) for link in links)) or "none"


def link_to_provider(payment: Payment) -> SafeString | str:
    """A link to the payment in the provider's dashboard, if we know where that is.

    The address comes from the provider: one that isn't of a web page is no link.
    """
    if urlsplit(payment.provider_page).scheme not in ("http", "https"):
        return "unknown"
    return format_html(
        '<a class="link" href="{}" target="_blank" rel="noopener noreferrer">See it there</a>',
        payment.provider_page,
    )


class FactsInline(TabularInline):
    """Rows that belong to the object of the page, and that nobody types."""

    extra = 0
    max_num = 0
    can_delete = False
    hide_title = True

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class MessageInline(FactsInline):
    model = PaymentEvent
    verbose_name_plural = "Messages from the provider"
    fields = ("received_at", "shown_kind", "deliveries", "outcome")
    readonly_fields = ("shown_kind",)

    @display(description="Kind")
    def shown_kind(self, message: PaymentEvent) -> str:
        return message.kind or "unknown"


@admin.register(Payment)
class PaymentAdmin(OffersPossibleActions, ReadOnlyAdmin):
    list_display = ("short_key", "order_link", "money", "shown_state", "started_at", "decided_at")
    list_select_related = ("order",)
    list_filter = (("state", ChoicesRadioFilter), ("started_at", PeriodFilter))
    search_fields = ("order__number",)
    search_help_text = "The order’s number, the provider’s reference or our key, in full"
    ordering = ("-pk",)
    inlines = (MessageInline,)
    actions_detail = ("look_up",)
    fields = (
        ("order_link", "state", "money"),
        ("money_kept", "provider_fee", "money_disputed"),
        ("provider", "shown_reference", "at_provider"),
        ("started_at", "expires_at", "decided_at"),
        ("short_key", "looked_up_at"),
        "refunds_of_it",
        "disputes_of_it",
    )
    readonly_fields = (
        "order_link",
        "state",
        "money",
        "money_kept",
        "provider_fee",
        "money_disputed",
        "shown_reference",
        "at_provider",
        "short_key",
        "refunds_of_it",
        "disputes_of_it",
        "looked_up_at",
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

    @display(description="Order")
    def order_link(self, payment: Payment) -> str:
        return link_to(payment.order, payment.order.number)

    @display(description="Refunds")
    def refunds_of_it(self, payment: Payment) -> str:
        return links_to_refunds(payment)

    @display(description="Disputes")
    def disputes_of_it(self, payment: Payment) -> str:
        return links_to_disputes(payment)

    @display(description="In the provider’s dashboard")
    def at_provider(self, payment: Payment) -> str:
        return link_to_provider(payment)

    @display(description="Amount", ordering="amount")
    def money(self, payment: Payment) -> str:
        return format_amount(payment.amount, payment.currency)

    @display(description="Last looked up at")
    def looked_up_at(self, payment: Payment) -> str:
        asked_at = payment.statement_at
        return localize(localtime(asked_at)) if asked_at else "never"

    @display(description="Kept")
    def money_kept(self, payment: Payment) -> str:
        return format_amount(payment.kept(), payment.currency)

    @display(description="Taken by disputes")
    def money_disputed(self, payment: Payment) -> str:
        return format_amount(payment.disputed(), payment.currency)

    @display(description="Provider’s fee")
    def provider_fee(self, payment: Payment) -> str:
        if payment.fee is None:
            return "unknown"
        return format_amount(payment.fee, payment.fee_currency or payment.currency)

    @display(description="State", label=PAYMENT_STATE)
    def shown_state(self, payment: Payment) -> tuple[str, str]:
        return payment.state, payment.get_state_display()

    def offers_action(self, action: str, obj: Payment) -> bool:
        return obj.state == Payment.State.PAID

    def has_look_up_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm("shop.add_refund")

    @action(description="Look it up", icon="search", permissions=["look_up"], url_path="look-up")
    def look_up(self, request: HttpRequest, object_id: str) -> HttpResponse:
        payment = object_or_404(self, request, object_id)

        def run(data: dict[str, Any]) -> str:
            if payment.state != Payment.State.PAID:
                raise ShopError(
                    f"This payment is {payment.get_state_display()}. Settle its order instead."
                )
            news = statements.look_into(payment.pk)
            return " ".join(news) or NothingChanged("The provider knows nothing new.")

        return ask_then_run(
            self,
            request,
            payment,
            title="Look the payment up at its provider",
            consequences=[
                "This asks the provider for the payment’s refunds and disputes, and records what "
                "is new. It moves no money and no units. If a dispute was won after the goods "
                "had come back, their price is owed to the buyer.",
                "The worker does the same every night, and whenever the provider sends a message.",
            ],
            button="Look it up",
            run=run,
            expected_errors=(*EXPECTED_ERRORS, ShopError),
        )


def _warnings(refund: Refund) -> list[str]:
    """A sentence if the buyer's bank has money of the payment already."""
    taken = refund.payment.disputed()
    if not taken:
        return []
    amount = format_amount(taken, refund.payment.currency)
    return [
        f"The buyer’s bank has taken {amount} of this payment back by a dispute. Don’t give the "
        "buyer the same money twice."
    ]


class ByHandForm(AskForm):
    how = LineField(label="How", help_text="Such as: bank transfer of 1 May. For the record.")


class MoneyGoneAdmin(ReadOnlyAdmin):
    """Records of money of a payment that went back to the buyer, found by the order's number."""

    list_display_links = ("name_of_it",)
    list_select_related = ("payment__order",)
    search_fields = ("payment__order__number",)
    search_help_text = "The order’s number, in full"
    ordering = ("-pk",)
    readonly_fields: tuple[str, ...] = (
        "order_link",
        "payment_link",
        "state",
        "money",
        "shown_reference",
        "at_provider",
    )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        payments = Payment.objects.filter(order__number=term.upper())
        return queryset.filter(payment__in=payments), False

    @display(description="Number")
    def name_of_it(self, record: Refund | Dispute) -> str:
        return f"#{record.pk}"

    @display(description="Order")
    def order_link(self, record: Refund | Dispute) -> str:
        order = record.payment.order
        return link_to(order, order.number)

    @display(description="Payment")
    def payment_link(self, record: Refund | Dispute) -> str:
        return link_to(record.payment)

    @display(description="In the provider’s dashboard")
    def at_provider(self, record: Refund | Dispute) -> str:
        return link_to_provider(record.payment)

    @display(description="Provider’s reference")
    def shown_reference(self, record: Refund | Dispute) -> str:
        return shortened(record.reference)

    @display(description="Amount", ordering="amount")
    def money(self, record: Refund | Dispute) -> str:
        return format_amount(record.amount, record.payment.currency)


@admin.register(Refund)
class RefundAdmin(OffersPossibleActions, MoneyGoneAdmin):
    list_display = ("name_of_it", "order_link", "money", "shown_state", "reason", "decided_at")
    list_filter = (("state", ChoicesRadioFilter), ("reason", ChoicesRadioFilter))
    actions_detail = ("carry_out", "note_by_hand")
    fields = (
        ("order_link", "payment_link", "state", "money"),
        ("reason", "note"),
        "problem",
        "by_hand",
        ("decided_at", "carried_out_at"),
        ("shown_reference", "at_provider"),
    )

    @display(description="State", label=REFUND_STATE)
    def shown_state(self, refund: Refund) -> tuple[str, str]:
        return refund.state, refund.get_state_display()

    def offers_action(self, action: str, obj: Refund) -> bool:
        if action == "note_by_hand":
            return obj.state == Refund.State.FAILED
        is_open = obj.state in (Refund.State.DUE, Refund.State.FAILED)
        return is_open and not obj.reference  # else it was made at the provider

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
                "however often you ask. A finished refund stays as it is.",
                *_warnings(refund),
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
                *_warnings(refund),
                "This moves no money: give it back first, by bank transfer for instance.",
                "Nobody asks the provider again, and the buyer gets an e-mail.",
            ],
            button="Note it",
            run=run,
            form_class=ByHandForm,
            expected_errors=(*EXPECTED_ERRORS, ShopError),
        )


@admin.register(Dispute)
class DisputeAdmin(MoneyGoneAdmin):
    list_display = ("name_of_it", "order_link", "money", "shown_state", "reason", "opened_at")
    list_filter = (("state", ChoicesRadioFilter), ("opened_at", PeriodFilter))
    fields = (
        ("order_link", "payment_link", "state", "money"),
        ("reason", "shown_reference", "at_provider"),
        ("opened_at", "noticed_at", "decided_at"),
    )

    @display(description="State", label=DISPUTE_STATE)
    def shown_state(self, dispute: Dispute) -> tuple[str, str]:
        return dispute.state, dispute.get_state_display()
