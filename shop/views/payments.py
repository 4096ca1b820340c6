"""Messages from payment providers."""

from __future__ import annotations

import logging
from http import HTTPStatus

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBadRequest
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from shop.middleware.rate_limits import not_limited
from shop.payments import BadEvent, ProviderUnavailable, events

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
