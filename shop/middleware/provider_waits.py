"""A buyer doesn't wait long for a payment provider: all its answers together get a few seconds.

A form leads to a page, which asks the provider again before it says that the provider is silent. So
the buyer waits for both. With what else they take, the buyer reads it within ten seconds.
"""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from shop import payments

TO_ACT = 5.0  # seconds for a form
TO_LOOK = 3.0  # seconds for a page, also for one that asks again by itself


def middleware(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[..., HttpResponse]:
    def handle(request: HttpRequest) -> HttpResponse:
        with payments.answer_within(TO_ACT if request.method == "POST" else TO_LOOK):
            return get_response(request)

    return handle
