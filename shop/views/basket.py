"""The basket, and the holds in it."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from inventory.models import Product, Reservation
from shop import basket as baskets
from shop.buyer import ShopRequest
from shop.checkout import unfinished_orders
from shop.forms import ChangeHoldForm, ReserveForm, uuids
from shop.views.catalogue import show_product

UNPROCESSABLE = 422
CONFLICT = 409


@require_safe
@never_cache
def basket(request: ShopRequest) -> HttpResponse:
    """What the buyer holds."""
    return show_basket(request)


@require_http_methods(["GET", "HEAD", "POST"])
def holds(request: ShopRequest) -> HttpResponse:
    """Reserve: POST ``product`` (its slug), ``quantity`` and the form's ``key``."""
    if request.method != "POST":
        return redirect("basket")
    slug = request.POST.get("product", "").replace("\0", "")
    product = get_object_or_404(Product.objects.catalogue(), slug=slug)
    form = ReserveForm(request.POST)
    if not form.is_valid():
        return show_product(request, product, form, UNPROCESSABLE)
    wanted = form.cleaned_data["quantity"]
    try:
        hold = baskets.reserve(product, wanted, buyer=request.buyer, key=form.cleaned_data["key"])
    except baskets.Refused as refused:
        form.add_error("quantity", str(refused))
        return show_product(request, product, form, CONFLICT)
    return _reserved(request, product, hold, wanted)


def _reserved(
    request: ShopRequest, product: Product, hold: Reservation, wanted: int
) -> HttpResponse:
    if hold.status != Reservation.Status.HELD or hold.quantity != wanted:
        # An old form, sent again: it reserved something, and counts once.
        messages.info(
            request,
            f"This form for {product.name} was sent before, and counts once. To reserve more, "
            "use the form on its page.",
        )
        return redirect("basket")
    messages.success(request, f"{hold.quantity} × {product.name} reserved for you.")
    return redirect("basket")


@require_http_methods(["GET", "HEAD", "POST"])
def hold(request: ShopRequest, hold_id: UUID) -> HttpResponse:
    """Change a hold (POST ``quantity``, ``seen`` and the form's ``key``), or ``remove`` it."""
    if request.method != "POST":
        return redirect("basket")
    try:
        found = baskets.find(request.buyer, hold_id)
    except Reservation.DoesNotExist:
        raise Http404 from None
    if "remove" in request.POST:
        return _remove(request, found)
    return _change(request, found)


def _remove(request: ShopRequest, hold: Reservation) -> HttpResponse:
    try:
        baskets.remove(hold)
    except baskets.Refused as refused:
        messages.error(request, str(refused))
    else:
        messages.success(request, f"{hold.product.name} removed from your basket.")
    return redirect("basket")


def _change(request: ShopRequest, hold: Reservation) -> HttpResponse:
    form = ChangeHoldForm(request.POST)
    if not form.is_valid():
        return show_basket(request, {hold.pk: form}, UNPROCESSABLE)
    wanted, seen = form.cleaned_data["quantity"], form.cleaned_data["seen"]
    try:
        baskets.change(hold, wanted, seen=seen, key=form.cleaned_data["key"])
    except baskets.Refused as refused:
        form.add_error("quantity", str(refused))
        return show_basket(request, {hold.pk: form}, CONFLICT)
    if wanted > seen:
        messages.success(
            request,
            f"{wanted - seen} × {hold.product.name} added, with a time of their own.",
        )
    else:
        messages.success(request, f"You now hold {wanted} × {hold.product.name}.")
    return redirect("basket")


def show_basket(
    request: ShopRequest, forms: dict[UUID, ChangeHoldForm] | None = None, status: int = 200
) -> HttpResponse:
    """The basket's page; with the form of a hold as it was sent, if it was refused.

    A page that is open asks for the part of it that changes.
    """
    basket = baskets.of(request.buyer, seen=uuids(request.GET.getlist("seen")[:100]))
    forms = forms or {}
    rows = [(line, forms.get(line.hold.pk) or _form(line)) for line in basket.lines]
    part = "HX-Request" in request.headers
    context = {
        "basket": basket,
        "rows": rows,
        "is_part": part,
        "unfinished": unfinished_orders(request.buyer),
    }
    return render(
        request, "shop/_basket.html" if part else "shop/basket.html", context, status=status
    )


def _form(line: baskets.Line) -> ChangeHoldForm:
    return ChangeHoldForm(initial={"quantity": line.hold.quantity})
