"""The checkout: from the basket to the bank."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from uuid import UUID

from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from inventory.exceptions import ReservationEnded
from shop import basket as baskets
from shop import links, notices, payments
from shop.exceptions import HoldInOrder, LimitPerCustomer, NotInThisState, ShopError
from shop.forms import CheckoutForm, uuids
from shop.middleware.buyer import ShopRequest
from shop.middleware.outages import repeatable
from shop.middleware.rate_limits import client_address
from shop.models import Order
from shop.orders import checkout as rules
from shop.orders import status_page
from shop.payments import ProviderUnavailable, StartDeclined


@require_http_methods(["GET", "HEAD", "POST"])
@repeatable  # the key finds the order of the first request
def checkout(request: ShopRequest) -> HttpResponse:
    """Order what is in the basket, and go to the bank.

    POST the form's fields, and what the page had: each ``hold``, ``seen_total``, and the form's
    ``key``. Sent twice, it leads to the first one's order. With ``again``, reserve once more what
    the page called over in time (each ``ended`` hold).
    """
    if request.method != "POST":
        return _look(request)
    form = CheckoutForm(request.POST)
    is_valid = form.is_valid()
    if "again" in request.POST:
        return _reserve_again(request, form)
    if not is_valid:
        return _show(request, form, HTTPStatus.UNPROCESSABLE_ENTITY)
    try:
        order = _place_order(request.buyer, form)
    except ValidationError as error:
        form.add_error(None, error.messages)
        return _show(request, form, HTTPStatus.UNPROCESSABLE_ENTITY)
    except HoldInOrder as refused:
        return _show(
            request, form, HTTPStatus.CONFLICT, problem=str(refused), earlier=refused.order
        )
    except ShopError as refused:
        return _show(request, form, HTTPStatus.CONFLICT, problem=str(refused))
    if order is form.instance:
        return go_to_bank(request, order)
    return _go_on(request, form, order)


def _place_order(buyer: str, form: CheckoutForm) -> Order:
    sent = form.cleaned_data
    return rules.place_order(
        buyer,
        sent["hold"],
        form.save(commit=False),
        # The buyer is part of the key: nobody can come upon another's order.
        idempotency_key=f"checkout {buyer} {sent['key']}",
        seen_total=sent["seen_total"],
    )


def _go_on(request: ShopRequest, form: CheckoutForm, order: Order) -> HttpResponse:
    """Lead from a form that was sent before to the bank; or to the order, if anything differs."""
    try:
        is_corrected = rules.correct_contact(order.pk, form.instance)
    except NotInThisState:
        notices.note_not_corrected(request, order)
        return redirect("order", order.token)
    except LimitPerCustomer as refused:
        problem = f"{refused} Order {order.number} stays as it was placed."
        return _show(request, form, HTTPStatus.CONFLICT, problem=problem, earlier=order)
    is_same = rules.is_order_of(order, form.cleaned_data["hold"])
    if is_corrected:
        notices.note_corrected(request, order)
    if not is_same:
        notices.note_placed_before(request, order)
    if is_corrected or not is_same:
        return redirect("order", order.token)
    return go_to_bank(request, order)


def _reserve_again(request: ShopRequest, form: CheckoutForm) -> HttpResponse:
    """Reserve what is over in time once more, and show the page with all that was typed."""
    refused, still_lapsed = [], []
    for lapsed in baskets.find_lapsed(request.buyer, form.holds_sent):
        try:
            hold = baskets.reserve_again(
                request.buyer,
                lapsed,
                key=form.key_to_send,
                address=client_address(request),
            )
        except baskets.BasketError as error:
            refused.append(str(error))
            still_lapsed += [hold.pk for hold in lapsed.holds]
        else:
            price = lapsed.holds[-1].unit_price
            notices.note_reserved(
                request, hold.pk, wanted=lapsed.quantity, seen_price=price, more=False
            )
    typed = CheckoutForm(initial=form.typed)
    status = HTTPStatus.CONFLICT if refused else HTTPStatus.OK
    return _show(request, typed, status, seen=still_lapsed, refused=refused)


def _look(request: ShopRequest) -> HttpResponse:
    """The page; for one that is open, only the parts of it that change by themselves."""
    if not request.htmx:
        return _show(request, CheckoutForm())
    seen = [*request.GET.getlist("hold"), *request.GET.getlist("ended")][:200]
    context = {**_basket_now(request, uuids(seen)), "is_part": True}
    return render(request, "shop/partials/checkout.html", context)


def _show(
    request: ShopRequest,
    form: CheckoutForm,
    status: HTTPStatus = HTTPStatus.OK,
    *,
    seen: Iterable[UUID] | None = None,
    **more: object,
) -> HttpResponse:
    """The page, with the basket as it is now and the form as it was sent."""
    context = {
        **_basket_now(request, form.holds_sent if seen is None else seen),
        "form": form,
        "unfinished": status_page.unfinished_standings(request.buyer),
        **more,
    }
    return render(request, "shop/checkout.html", context, status=status)


def _basket_now(request: ShopRequest, seen: Iterable[UUID]) -> dict[str, object]:
    basket = baskets.basket_of(request.buyer, seen=seen)
    lapsed = baskets.lapsed_with_stock(request.buyer, basket.lapsed)
    return {
        "basket": basket,
        "units_in_basket": basket.units,
        "lapsed": lapsed,
        "can_reserve_again": any(each.can_be_had for each in lapsed),
        "bank": payments.current_provider().label,
    }


def go_to_bank(request: ShopRequest, order: Order) -> HttpResponse:
    """Lead to where the order is paid; or to its page, which says why that can't be."""
    page = reverse("order", args=[order.token])
    try:
        return redirect(rules.start_payment(order.pk, return_url=links.absolute_url(request, page)))
    except NotInThisState:
        pass  # paid or closed by now, as its page says
    except ReservationEnded:
        notices.note_unpayable(request, order)
    except StartDeclined:
        notices.note_not_accepted(request, order)
    except ProviderUnavailable:
        notices.note_unreachable(request, order)
    return redirect(page)
