"""An order's pages. Anybody who knows their unguessable address may read and change the order."""

from __future__ import annotations

from http import HTTPStatus

from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.paginator import Paginator
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_safe
from django_htmx.http import HTMX_STOP_POLLING

from inventory.models import Product
from shop import notices, orders
from shop.exceptions import LimitPerCustomer, NotInThisState
from shop.forms import ContactForm
from shop.middleware.buyer import ShopRequest
from shop.middleware.outages import repeatable
from shop.models import Order
from shop.notifications import outbox
from shop.orders import CancelledBy, checkout, status_page
from shop.views.checkout import go_to_bank
from shop.views.privacy import private_page
from shop.waiting_rooms import slot_for

ON_A_PAGE = 20  # orders; each takes a few statements


@require_safe
@private_page
def order_list(request: ShopRequest) -> HttpResponse:
    """List the orders of this browser's buyer, the newest first."""
    placed = Order.objects.of_buyer(request.buyer).prefetch_related("lines")
    page = Paginator(placed, ON_A_PAGE).get_page(request.GET.get("page"))
    context = {
        "stands": [status_page.recorded_standing(order) for order in page],
        "page": page,
        "page_numbers": page.paginator.get_elided_page_range(
            page.number, on_each_side=1, on_ends=1
        ),
    }
    return render(request, "shop/order_list.html", context)


@require_safe
@private_page
def order(request: ShopRequest, token: str) -> HttpResponse:
    """Show how the order stands. The bank sends its customers back to this page.

    Settle a payment under way first. That is safe on a GET: it only finds out what happened at
    the bank, as the worker and the bank's message do. A page that is open asks again, and sends
    in ``seen`` the state that it shows.
    """
    try:
        stands = status_page.look_up(token)
    except Order.DoesNotExist:
        raise Http404 from None
    context = {
        "standing": stands,
        "order": stands.order,
        "can_be_corrected": can_be_corrected(request, stands.order),
        "has_outbox": outbox.is_shown(),
    }
    if not request.htmx:
        return render(request, "shop/order_detail.html", context)
    if request.GET.get("seen") == stands.fingerprint:
        return HttpResponse(status=HTTPStatus.NO_CONTENT)
    status = HTTPStatus.OK if stands.awaits_answer else HTMX_STOP_POLLING
    return render(request, stands.template, {**context, "is_part": True}, status=status)


@require_http_methods(["GET", "HEAD", "POST"])
@private_page
@repeatable  # a payment that may still end well is continued
def payment(request: ShopRequest, token: str) -> HttpResponse:
    """On POST, pay for the order, or continue the payment under way."""
    found = get_object_or_404(Order, token=token)
    if request.method != "POST":
        return redirect("order", token)
    return go_to_bank(request, found)


@require_http_methods(["GET", "HEAD", "POST"])
@private_page
def contact(request: ShopRequest, token: str) -> HttpResponse:
    """On POST, correct what the buyer typed at the checkout.

    Only the browser that placed the order may: others who have the order's link could send the
    parcel to themselves.
    """
    found = get_object_or_404(Order, token=token)
    if not can_be_corrected(request, found) and request.method != "POST":
        return redirect("order", token)
    if found.buyer != request.buyer:
        raise PermissionDenied
    if request.method != "POST":
        return _show_contact(request, found, ContactForm(instance=found))
    form = ContactForm(request.POST, instance=found)
    if not form.is_valid():
        return _show_contact(request, found, form, HTTPStatus.UNPROCESSABLE_ENTITY)
    try:
        checkout.correct_contact(found.pk, form.instance)
        notices.note_corrected(request, found)
    except NotInThisState:
        notices.note_not_corrected(request, found)
    except ValidationError as error:
        form.add_error(None, error.messages)
        return _show_contact(request, found, form, HTTPStatus.UNPROCESSABLE_ENTITY)
    except LimitPerCustomer as refused:
        form.add_error("email", str(refused))
        return _show_contact(request, found, form, HTTPStatus.CONFLICT)
    return redirect("order", token)


def can_be_corrected(request: ShopRequest, order: Order) -> bool:
    """Whether this visitor may still correct what was typed at the checkout."""
    return order.is_open and order.buyer == request.buyer


def _show_contact(
    request: ShopRequest, order: Order, form: ContactForm, status: HTTPStatus = HTTPStatus.OK
) -> HttpResponse:
    context = {"order": order, "form": form}
    return render(request, "shop/order_contact.html", context, status=status)


@require_http_methods(["GET", "HEAD", "POST"])
@private_page
@repeatable
def cancellation(request: ShopRequest, token: str) -> HttpResponse:
    """Ask whether to cancel the order; on POST, cancel it. A repeated POST changes nothing."""
    found = get_object_or_404(Order, token=token)
    if request.method != "POST":
        if not found.can_be_cancelled:
            return redirect("order", token)
        return render(request, "shop/order_cancellation.html", {"order": found})
    try:
        with slot_for(*Product.objects.filter(reservations__order_line__order=found)):
            orders.cancel(found.pk, by=CancelledBy.BUYER)
    except NotInThisState as refused:
        messages.error(request, str(refused))
    return redirect("order", token)
