"""A buyer doesn't wait long for a payment provider: all its answers together get a few seconds."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from shop import payments

SECONDS = 8.0  # with what else a page takes, a buyer reads within ten that the bank is silent


def middleware(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[..., HttpResponse]:
    def handle(request: HttpRequest) -> HttpResponse:
        with payments.answer_within(SECONDS):
            return get_response(request)

    return handle
