"""Flash sales: the results of each, and an action that runs a new one."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from unfold.contrib.filters.admin import ChoicesRadioFilter
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from inventory import strategies
from inventory.admin.base import (
    CheckboxField,
    OnceForm,
    ReadOnlyAdmin,
    UnitsField,
    change_url,
    date_and_time,
    list_url,
    user_of,
)
from inventory.experiments.flash_sale import queueing, report
from inventory.experiments.flash_sale.charts import charts_of
from inventory.experiments.flash_sale.sale import Parameters
from inventory.experiments.models import FlashSale, FlashSaleResult
from inventory.experiments.parameters import InvalidParameters
from inventory.models import StockAlert
from inventory.words import counted

State = FlashSale.State
STATE = {
    State.QUEUED: "warning",
    State.RUNNING: "info",
    State.FINISHED: "success",
    State.BROKEN_OFF: "danger",
}
MOST_BUYERS = 500
MOST_UNITS = 1000
MOST_PAYMENT_MS = 1000
MOST_ROUNDS = 5


class RunForm(OnceForm):
    strategies = forms.MultipleChoiceField(widget=UnfoldAdminCheckboxSelectMultipleWidget())
    stock = UnitsField(
        label="Units on sale", max_value=MOST_UNITS, initial=10, help_text=f"At most {MOST_UNITS}."
    )
    buyers = UnitsField(max_value=MOST_BUYERS, initial=15, help_text=f"At most {MOST_BUYERS}.")
    least = UnitsField(label="Each buyer asks for at least", max_value=MOST_UNITS, initial=1)
    most = UnitsField(label="and at most", max_value=MOST_UNITS, initial=1)
    payment_ms = UnitsField(
        label="A payment takes (milliseconds)",
        min_value=0,
        max_value=MOST_PAYMENT_MS,
        initial=50,
        help_text=f"At most {MOST_PAYMENT_MS}.",
    )
    rounds = UnitsField(max_value=MOST_ROUNDS, initial=1, help_text=f"At most {MOST_ROUNDS}.")
    backstop = CheckboxField(
        label="Backstop",
        help_text="Let PostgreSQL’s CHECK refuse stock below zero, as in the shop.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = [(each.slug, each.label) for each in strategies.all_strategies()]
        field = self.fields["strategies"]
        field.choices = choices  # type: ignore[attr-defined]
        field.initial = [slug for slug, label in choices]

    def parameters(self) -> Parameters:
        """The parameters in the form. Raises InvalidParameters."""
        data = self.cleaned_data
        return Parameters(
            strategies=data["strategies"],
            stock=data["stock"],
            buyers=data["buyers"],
            quantity=(data["least"], data["most"]),
            processes=2,
            payment_ms=data["payment_ms"],
            rounds=data["rounds"],
            backstop=data["backstop"],
        )


@admin.register(FlashSale)
class FlashSaleAdmin(ReadOnlyAdmin):
    list_display = ("number", "started_at", "size", "shown_state", "outcome", "started_by")
    list_select_related = ("started_by",)
    list_filter = (("state", ChoicesRadioFilter),)
    ordering = ("-pk",)
    actions_list = ("run_flash_sale",)
    change_form_template = "admin/experiments/flash_sale.html"
    fields = ()

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("results")

    @display(description="Sale")
    def number(self, sale: FlashSale) -> str:
        return f"#{sale.pk}"

    @display(description="Size")
    def size(self, sale: FlashSale) -> str:
        number = len(sale.strategies) or len(sale.results.all())
        return f"{sale}, {counted(number, 'strategy', 'strategies')}"

    @display(description="State", label=STATE)
    def shown_state(self, sale: FlashSale) -> tuple[str, str]:
        return sale.state, sale.get_state_display()

    @display(description="Outcome")
    def outcome(self, sale: FlashSale) -> str:
        broken = {result.strategy for result in sale.results.all() if report.is_broken(result)}
        if not sale.is_over:
            return ""
        return f"broken by {', '.join(sorted(broken))}" if broken else "exact"

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        sale = self.get_object(request, object_id)
        results = list(sale.results.select_related("product")) if sale else []
        context = {
            "sale": sale,
            "results": [(result, report.is_broken(result)) for result in results],
            "done": len(results),
            "percent": round(100 * len(results) / sale.number_of_turns)
            if sale and sale.number_of_turns
            else 0,
            "alerts": self._number_of_open_alerts(request, results),
            "alerts_url": list_url(StockAlert, "shelf=exhibits"),
            "charts": charts_of(results) if results else [],
            "notes": report.NOTES,
            "title": f"Flash sale #{object_id}",
        }
        return super().change_view(
            request, object_id, form_url, {**context, **(extra_context or {})}
        )

    def _number_of_open_alerts(self, request: HttpRequest, results: list[FlashSaleResult]) -> int:
        """The number of open alerts of the sale's exhibits. No other page or e-mail shows them."""
        if not request.user.has_perm("inventory.view_stockalert"):
            return 0
        exhibits = {result.product_id for result in results}
        return StockAlert.objects.open().filter(product__in=exhibits).count()

    def has_run_permission(self, request: HttpRequest) -> bool:
        return queueing.is_configured() and request.user.has_perm("experiments.run_flashsale")

    @action(
        description="Run a flash sale",
        icon="bolt",
        permissions=["run"],
        url_path="run",
        variant=ActionVariant.PRIMARY,
    )
    def run_flash_sale(self, request: HttpRequest) -> HttpResponse:
        if not self.has_run_permission(request):
            raise PermissionDenied
        form = RunForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            try:
                sale = queueing.queue(
                    form.parameters(),
                    started_by=user_of(request),
                    idempotency_key=form.cleaned_data["key"],
                )
            except InvalidParameters as error:
                form.add_error(None, str(error))
            else:
                self._add_message(request, sale)
                return HttpResponseRedirect(change_url(sale))
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Run a flash sale",
            "form": form,
            "consequences": [
                "A worker starts two processes full of buyers. For each strategy, all buyers start "
                "at the same instant, on a product made for it. The sale touches no product of the "
                "catalogue.",
                "Each buyer needs a connection to the database, and the machine is busy until the "
                "sale ends.",
            ],
            "button": "Run",
            "back": list_url(FlashSale),
        }
        return TemplateResponse(request, "admin/inventory/ask.html", context)

    def _add_message(self, request: HttpRequest, sale: FlashSale) -> None:
        if sale.is_repeated:
            messages.warning(
                request,
                f"This form was sent before, and started this sale at "
                f"{date_and_time(sale.started_at)}. No sale was queued this time. To queue another "
                "one, open the form again.",
            )
            return
        self.log_addition(request, sale, f"Flash sale #{sale.pk} was queued.")
        messages.success(request, "A worker will run the sale as soon as it is free.")
