"""Where payment providers post their messages, and the demo bank's page."""

from __future__ import annotations

import logging

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBadRequest
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_POST

from shop.models import DemoBankCharge
from shop.payments import BadEvent, ProviderUnavailable, demo, events

log = logging.getLogger(__name__)


@csrf_exempt  # providers have no cookie: each message is signed instead
@require_POST
def payment_events(request: HttpRequest, provider: str) -> HttpResponse:
    """Take a provider's message: 200 if it is settled (again), 400 if it isn't genuine.

    503 where we can't ask the provider back: it delivers the message again later.
    """
    try:
        events.receive(provider, request)
    except LookupError as error:
        raise Http404(str(error)) from error
    except BadEvent as error:
        log.warning("A message of %s was refused: %s", provider, error)
        return HttpResponseBadRequest(f"{error}\n", content_type="text/plain")
    except ProviderUnavailable as error:
        return HttpResponse(f"{error}\n", status=503, content_type="text/plain")
    return HttpResponse("ok\n", content_type="text/plain")


@require_http_methods(["GET", "POST"])
def demo_bank(request: HttpRequest, reference: str) -> HttpResponse:
    """The page on which the bank's customer chooses how the payment ends."""
    charge = get_object_or_404(DemoBankCharge, reference=reference)
    if request.method == "GET":
        return render(request, "shop/demo_bank.html", {"charge": charge})
    try:
        choice = demo.Choice(request.POST.get("choice", ""))
    except ValueError:
        choices = ", ".join(demo.Choice)
        return HttpResponseBadRequest(f"choice must be one of: {choices}\n", "text/plain")
    charge = demo.choose(reference, choice)
    if choice is demo.Choice.LOSE_ANSWER:
        return render(request, "shop/demo_bank.html", {"charge": charge, "lost": True})
    return redirect(charge.return_url)
