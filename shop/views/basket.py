"""Pages of the basket and its holds."""

from __future__ import annotations

from http import HTTPStatus
from uuid import UUID, uuid4

from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from inventory.models import Product, Reservation
from shop import basket as baskets
from shop import catalogue, notices
from shop.forms import ChangeHoldForm, ReserveForm, uuids
from shop.middleware.buyer import ShopRequest
from shop.middleware.outages import repeatable
from shop.middleware.rate_limits import client_address
from shop.orders import status_page
from shop.views.catalogue import show_product
from shop.waiting_rooms import slot_for


@require_safe
def basket(request: ShopRequest) -> HttpResponse:
    """Show the basket."""
    return show_basket(request)


@require_http_methods(["GET", "HEAD", "POST"])
@repeatable  # the key finds the hold of the first request
def holds(request: ShopRequest) -> HttpResponse:
    """Reserve: POST ``product`` (its slug), ``quantity`` and the form's ``key``."""
    if request.method != "POST":
        return redirect("basket")
    slug = request.POST.get("product", "")
    form = ReserveForm(request.POST)
    if not form.is_valid():
        return show_refused(request, slug, form)
    wanted = form.cleaned_data["quantity"]
    try:
        hold = baskets.reserve_by_slug(
            slug,
            wanted,
            buyer=request.buyer,
            key=form.cleaned_data["key"],
            address=client_address(request),
        )
    except Product.DoesNotExist:
        raise Http404 from None
    except baskets.BasketError as refused:
        return show_refused(request, slug, form, str(refused))
    notices.note_reserved(
        request, hold.pk, wanted=wanted, seen_price=form.cleaned_data["seen_price"], more=False
    )
    return redirect("basket")


def refused(request: ShopRequest, slug: str, quantity: int, text: str = "") -> HttpResponse:
    """The page on which ``holds`` refuses so many units, for the fast lane.

    ``text`` is the reason; without it, there are too few units.
    """
    form = ReserveForm({"quantity": quantity, "key": uuid4()})
    form.is_valid()
    if not text:
        product = get_object_or_404(Product.objects.catalogue(), slug=slug)
        text = baskets.too_few_text(product, quantity)
    return show_refused(request, slug, form, text)


def show_refused(
    request: ShopRequest, slug: str, form: ReserveForm, text: str = ""
) -> HttpResponse:
    """Show the product as it is now: others may have taken units meanwhile.

    ``text`` is the reason if it isn't a mistake in the form.
    """
    status = HTTPStatus.UNPROCESSABLE_ENTITY
    if text:
        form.add_error("quantity", text)
        status = HTTPStatus.CONFLICT
    product = catalogue.find_product(slug, request.buyer)
    if product is None:
        raise Http404
    return show_product(request, product, form, status)


@require_http_methods(["GET", "HEAD", "POST"])
def hold(request: ShopRequest, hold_id: UUID) -> HttpResponse:
    """Change the line of a hold, or ``remove`` it.

    POST ``quantity``, ``seen`` and the form's ``key``, and each ``hold`` that the line showed.
    """
    if request.method != "POST":
        return redirect("basket")
    try:
        found = baskets.find_hold(request.buyer, hold_id)
    except Reservation.DoesNotExist:
        raise Http404 from None
    if "remove" in request.POST:
        with slot_for(found.product):
            removed = baskets.remove(found, shown=uuids(request.POST.getlist("hold")))
        notices.note_removed(request, removed)
        return redirect("basket")
    return _change(request, found)


def _change(request: ShopRequest, hold: Reservation) -> HttpResponse:
    form = ChangeHoldForm(request.POST)
    if not form.is_valid():
        return show_basket(request, hold, form, HTTPStatus.UNPROCESSABLE_ENTITY)
    sent = form.cleaned_data
    try:
        with slot_for(hold.product):
            added = baskets.change(
                hold,
                sent["quantity"],
                seen=sent["seen"],
                key=sent["key"],
                address=client_address(request),
                shown=sent["hold"],
            )
    except baskets.BasketError as refused:
        form.add_error("quantity", str(refused))
        return show_basket(request, hold, form, HTTPStatus.CONFLICT)
    if added:
        notices.note_reserved(
            request,
            added.pk,
            wanted=sent["quantity"] - sent["seen"],
            seen_price=hold.unit_price,
            more=True,
        )
    else:
        notices.note_changed(request, hold.pk)
    return redirect("basket")


def show_basket(
    request: ShopRequest,
    changed: Reservation | None = None,
    form: ChangeHoldForm | None = None,
    status: HTTPStatus = HTTPStatus.OK,
) -> HttpResponse:
    """Show the basket's page; with a hold's form as it was sent, if that had an error.

    A page that is open asks only for the part that changes.
    """
    said = notices.pending_notices(request, request.buyer)
    seen = uuids(request.GET.getlist("seen")[:100])
    seen += [notice.lapsed for notice in said if notice.lapsed] + ([changed.pk] if changed else [])
    basket = baskets.basket_of(request.buyer, seen=seen)
    told_of = [*basket.holds, *(hold for lapsed in basket.lapsed for hold in lapsed.holds)]
    rows = [
        (line, form if form and changed in line.holds else _form(line)) for line in basket.lines
    ]
    part = bool(request.htmx)
    context = {
        "basket": basket,
        "units_in_basket": basket.units,
        "rows": rows,
        "lapsed": baskets.lapsed_with_stock(request.buyer, basket.lapsed),
        "is_part": part,
        "notices": [notice for notice in said if not notice.lapsed],
        # The line is gone, and with it the field beside which the error would stand.
        "refused": form if form and changed not in told_of else None,
        "unfinished": status_page.unfinished_standings(request.buyer),
    }
    return render(
        request, "shop/partials/basket.html" if part else "shop/basket.html", context, status=status
    )


def _form(line: baskets.Line) -> ChangeHoldForm:
    return ChangeHoldForm(initial={"quantity": line.quantity})
