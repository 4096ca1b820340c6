"""Messages from payment providers, and the demo bank's page."""

from __future__ import annotations

import logging
from http import HTTPStatus

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBadRequest
from django.shortcuts import redirect, render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_POST

from shop.middleware.rate_limits import not_limited
from shop.models import DemoBankCharge
from shop.payments import BadEvent, ProviderUnavailable, demo, events
from shop.views.privacy import private_page

log = logging.getLogger(__name__)


@not_limited  # one provider sends the messages of all buyers
@csrf_exempt  # providers have no cookie: each message is signed instead
@require_POST
def payment_events(request: HttpRequest, provider: str) -> HttpResponse:
    """Take a provider's message: 200 if its order is settled, 400 if it isn't genuine.

    200, too, if it is about no payment of this shop: the provider has many customers.
    503 if the provider doesn't answer our question: it sends the message again later.
    """
    try:
        events.receive(provider, request)
    except LookupError as error:
        raise Http404(str(error)) from error
    except BadEvent as error:
        log.warning("A message of %s was refused: %s", provider, error)
        return HttpResponseBadRequest(f"{error}\n", content_type="text/plain")
    except ProviderUnavailable as error:
        return HttpResponse(
            f"{error}\n", status=HTTPStatus.SERVICE_UNAVAILABLE, content_type="text/plain"
        )
    return HttpResponse("ok\n", content_type="text/plain")


@require_http_methods(["GET", "HEAD", "POST"])
@private_page
def demo_bank(request: HttpRequest, reference: str) -> HttpResponse:
    """Show the demo bank's page, on which the customer chooses how the payment ends."""
    if request.method == "POST":
        return _choose(request, reference)
    return _show_bank(request, _charge(reference))


def _choose(request: HttpRequest, reference: str) -> HttpResponse:
    charge = _charge(reference)
    try:
        choice = demo.Choice(request.POST.get("choice", ""))
    except ValueError:
        problem = "Choose one of these four."
        return _show_bank(request, charge, problem=problem, status=HTTPStatus.BAD_REQUEST)
    charge = demo.choose(reference, choice)
    if choice is demo.Choice.LOSE_ANSWER and charge.state == DemoBankCharge.State.APPROVED:
        return _show_bank(request, charge, lost=True)
    return redirect(charge.return_url)


def _charge(reference: str) -> DemoBankCharge:
    try:
        return demo.find_charge(reference)
    except DemoBankCharge.DoesNotExist:
        raise Http404 from None


def _show_bank(
    request: HttpRequest,
    charge: DemoBankCharge,
    *,
    status: HTTPStatus = HTTPStatus.OK,
    **more: object,
) -> HttpResponse:
    return render(request, "shop/demo_bank.html", {"charge": charge, **more}, status=status)
