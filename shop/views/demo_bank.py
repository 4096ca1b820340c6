"""The demo bank's pages: for its customers, and its dashboard, where staff play the bank's staff.

Only a shop that names the demo bank as a provider has them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from http import HTTPStatus
from typing import Any
from uuid import UUID, uuid4

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import permission_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from shop import payments
from shop.models import DemoBankCharge, DemoBankDispute, DemoBankRefund
from shop.money import format_amount
from shop.payments import RefundDeclined, demo, demo_dashboard
from shop.views.privacy import private_page

View = Callable[..., HttpResponse]


def in_demo_bank(view: View) -> View:
    """Mark a view that only a shop with the demo bank has, and that tells nobody its address."""

    @wraps(view)
    def found_in_demo_bank(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if demo.DemoBank.slug not in payments.known_slugs():
            raise Http404("This shop has no demo bank.")
        try:
            return view(request, *args, **kwargs)
        except DemoBankCharge.DoesNotExist:
            raise Http404("The demo bank has no such charge.") from None

    return private_page(found_in_demo_bank)


# The customer's pages


@require_http_methods(["GET", "HEAD", "POST"])
@in_demo_bank
def customer_page(request: HttpRequest, reference: str) -> HttpResponse:
    """Show the demo bank's page, on which the customer chooses how the payment ends."""
    if request.method == "POST":
        return _choose(request, reference)
    return _show_customer(request, demo.find_charge(reference))


def _choose(request: HttpRequest, reference: str) -> HttpResponse:
    try:
        choice = demo.Choice(request.POST.get("choice", ""))
    except ValueError:
        charge = demo.find_charge(reference)
        problem = "Choose one of these four."
        return _show_customer(request, charge, problem=problem, status=HTTPStatus.BAD_REQUEST)
    charge = demo.choose(reference, choice)
    if choice is demo.Choice.LOSE_ANSWER and charge.state == DemoBankCharge.State.APPROVED:
        return _show_customer(request, charge, lost=True)
    return redirect(charge.return_url)


def _show_customer(
    request: HttpRequest,
    charge: DemoBankCharge,
    *,
    status: HTTPStatus = HTTPStatus.OK,
    **more: object,
) -> HttpResponse:
    has_ended_well = charge.state == DemoBankCharge.State.APPROVED
    context = {**(_context(charge) if has_ended_well else {"charge": charge}), **more}
    return render(request, "shop/demo_bank.html", context, status=status)


@require_http_methods(["GET", "HEAD", "POST"])
@in_demo_bank
def dispute(request: HttpRequest, reference: str) -> HttpResponse:
    """On POST, dispute the charge for its customer. The page that follows says how it stands."""
    if request.method == "POST":
        demo.dispute(reference)
    return redirect("demo-bank", reference)


# The dashboard


class GiveBackForm(forms.Form):
    """An amount, and a key, so that it is given back once when a browser sends it twice."""

    amount = forms.DecimalField(
        min_value=demo.LEAST_REFUND,
        max_digits=12,
        decimal_places=2,
        widget=forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off"}),
        error_messages={"invalid": "Enter an amount such as 12.50."},
    )
    key = forms.UUIDField(
        widget=forms.HiddenInput(), error_messages=dict.fromkeys(("required", "invalid"), "")
    )


class RefundForm(forms.Form):
    refund = forms.IntegerField(min_value=1)


@require_http_methods(["GET", "HEAD", "POST"])
@in_demo_bank
@permission_required("shop.view_payment", raise_exception=True)
def dashboard(request: HttpRequest, pk: int) -> HttpResponse:
    """Show a charge to the bank's staff, who are the shop's here; on POST, take one of the steps.

    The address leads only to what staff may see: the customer's page has a secret one.
    """
    charge = demo_dashboard.find_charge(pk)
    if request.method != "POST":
        return _show_dashboard(request, charge)
    if not _may_act(request):
        raise PermissionDenied
    step = STEPS.get(request.POST.get("step", ""))
    if step is None:
        return _show_dashboard(request, charge, problem="Choose one of the steps on this page.")
    return step(request, charge)


def _may_act(request: HttpRequest) -> bool:
    return request.user.has_perm("shop.add_refund")


def _give_back(request: HttpRequest, charge: DemoBankCharge) -> HttpResponse:
    form = GiveBackForm(request.POST, label_suffix="")
    if not form.is_valid():
        problem = (
            "This form was incomplete. Please send it once more." if form["key"].errors else ""
        )
        return _show_dashboard(request, charge, form=form, problem=problem)
    try:
        refund, is_new = demo_dashboard.give_back(
            charge.pk, form.cleaned_data["amount"], form.cleaned_data["key"]
        )
    except RefundDeclined as error:
        return _back(request, charge, messages.ERROR, str(error))
    amount = format_amount(refund.amount, charge.currency)
    if not is_new:
        words = f"This form was sent before, and counts once. It has given back {amount}."
        return _back(request, charge, messages.WARNING, words)
    return _back(request, charge, messages.SUCCESS, f"{amount} were given back.")


def _let_refund_fail(request: HttpRequest, charge: DemoBankCharge) -> HttpResponse:
    form = RefundForm(request.POST)
    try:
        number = form.cleaned_data["refund"] if form.is_valid() else 0
        refund, is_new = demo_dashboard.let_refund_fail(charge.pk, number)
    except DemoBankRefund.DoesNotExist:
        return _show_dashboard(request, charge, problem="This charge has no such refund.")
    amount = format_amount(refund.amount, charge.currency)
    if not is_new:
        words = f"The refund of {amount} had failed before. Nothing was done this time."
        return _back(request, charge, messages.WARNING, words)
    words = f"The refund of {amount} has failed: the money is back with the shop."
    return _back(request, charge, messages.SUCCESS, words)


def _dispute(request: HttpRequest, charge: DemoBankCharge) -> HttpResponse:
    if demo.dispute(charge.reference):
        return _back(request, charge, messages.SUCCESS, "The charge is disputed.")
    words = "The charge was disputed before, or nothing is left of it. Nothing was done this time."
    return _back(request, charge, messages.WARNING, words)


def _decide_for_shop(request: HttpRequest, charge: DemoBankCharge) -> HttpResponse:
    return _decide(request, charge, for_shop=True)


def _decide_for_customer(request: HttpRequest, charge: DemoBankCharge) -> HttpResponse:
    return _decide(request, charge, for_shop=False)


def _decide(request: HttpRequest, charge: DemoBankCharge, *, for_shop: bool) -> HttpResponse:
    try:
        dispute, is_new = demo_dashboard.decide_dispute(charge.pk, for_shop=for_shop)
    except DemoBankDispute.DoesNotExist:
        return _show_dashboard(request, charge, problem="The customer hasn’t disputed this charge.")
    if not is_new:
        words = f"The dispute was {dispute.get_state_display()} before. It stays so."
        return _back(request, charge, messages.WARNING, words)
    return _back(
        request, charge, messages.SUCCESS, f"The dispute was {dispute.get_state_display()}."
    )


def _decline_refunds(request: HttpRequest, charge: DemoBankCharge) -> HttpResponse:
    if demo_dashboard.decline_refunds(charge.pk):
        return _back(request, charge, messages.SUCCESS, "The bank declines all further refunds.")
    words = "The bank declined all further refunds before. Nothing was done this time."
    return _back(request, charge, messages.WARNING, words)


STEPS: dict[str, Callable[[HttpRequest, DemoBankCharge], HttpResponse]] = {
    "give-back": _give_back,
    "let-fail": _let_refund_fail,
    "dispute": _dispute,
    "decide-for-shop": _decide_for_shop,
    "decide-for-customer": _decide_for_customer,
    "decline-refunds": _decline_refunds,
}


def _back(request: HttpRequest, charge: DemoBankCharge, level: int, words: str) -> HttpResponse:
    messages.add_message(request, level, words)
    return redirect("demo-bank-charge", charge.pk)


def _show_dashboard(
    request: HttpRequest,
    charge: DemoBankCharge,
    *,
    form: GiveBackForm | None = None,
    problem: str = "",
) -> HttpResponse:
    context = {
        **_context(charge),
        "may_act": _may_act(request),
        "form": form or GiveBackForm(label_suffix=""),
        "key": _key_to_send(form),
        "why_no_refunds": demo.why_declined(charge),
        "problem": problem,
    }
    status = HTTPStatus.BAD_REQUEST if form or problem else HTTPStatus.OK
    return render(request, "shop/demo_bank_charge.html", context, status=status)


def _key_to_send(form: GiveBackForm | None) -> UUID:
    """The key that the form came with, or a new one."""
    sent = form.cleaned_data.get("key") if form else None
    return sent or uuid4()


def _context(charge: DemoBankCharge) -> dict[str, Any]:
    """A charge with all that is on record of it."""
    given_back = charge.given_back()
    return {
        "charge": charge,
        "refunds": charge.refunds.order_by("pk"),
        "given_back": given_back,
        "left": charge.amount - given_back,
        "dispute": DemoBankDispute.objects.filter(charge=charge).first(),
    }
