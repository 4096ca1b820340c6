"""From the basket to the bank."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from inventory.exceptions import ReservationEnded
from shop import basket as baskets
from shop import checkout as rules
from shop import notices, standing
from shop.buyer import ShopRequest
from shop.exceptions import HoldInOrder, NotInThisState, ShopError
from shop.forms import CheckoutForm
from shop.models import Order
from shop.payments import ProviderUnavailable
from shop.views.basket import CONFLICT, UNPROCESSABLE


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
def checkout(request: ShopRequest) -> HttpResponse:
    """Order what is in the basket, and go to the bank.

    POST ``name``, ``email``, the address in its parts, and what the page had: each ``hold``,
    ``seen_total``, and the form's ``key``. Sent twice, it leads to the first one's order.
    """
    if request.method != "POST":
        return _show(request, CheckoutForm())
    form = CheckoutForm(request.POST)
    if not form.is_valid():
        return _show(request, form, UNPROCESSABLE)
    try:
        order = _place_order(request.buyer, form)
    except ValidationError as error:
        form.add_error(None, error.messages)
        return _show(request, form, UNPROCESSABLE)
    except HoldInOrder as refused:
        return _show(request, form, CONFLICT, problem=str(refused), earlier=refused.order)
    except ShopError as refused:
        return _show(request, form, CONFLICT, problem=str(refused))
    return go_to_bank(request, order)


def _place_order(buyer: str, form: CheckoutForm) -> Order:
    sent = form.cleaned_data
    return rules.place_order(
        buyer,
        sent["hold"],
        name=sent["name"],
        email=sent["email"],
        address=form.cleaned_address,
        # The buyer is part of the key: nobody can come upon another's order.
        idempotency_key=f"checkout {buyer} {sent['key']}",
        seen_total=sent["seen_total"],
    )


def _show(
    request: ShopRequest, form: CheckoutForm, status: int = 200, **more: object
) -> HttpResponse:
    """The page, with the basket as it is now and the form as it was sent."""
    basket = baskets.of(request.buyer, seen=form.holds_sent)
    context = {
        "basket": basket,
        "form": form,
        "unfinished": standing.unfinished(request.buyer),
        **more,
    }
    return render(request, "shop/checkout.html", context, status=status)


def go_to_bank(request: ShopRequest, order: Order) -> HttpResponse:
    """Lead to where the order is paid; or to its page, which says why that can't be."""
    page = reverse("order", args=[order.token])
    try:
        return redirect(rules.start_payment(order.pk, return_url=request.build_absolute_uri(page)))
    except NotInThisState:
        pass  # paid or closed by now, as its page says
    except ReservationEnded:
        notices.leave_unpayable(request, order)
    except ProviderUnavailable:
        notices.leave_unreachable(request, order)
    return redirect(page)
