"""A limit on the requests of one network address. Above it, a page says when to come back.

django-ratelimit counts the requests in Django's cache. The limits on a basket are in
``shop.basket``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.core.cache import caches
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render

from shop.client_address import client_address_in

SECONDS = "shop.seconds_to_wait"  # in the ASGI scope of a request that was counted

View = Callable[..., HttpResponseBase]


def not_limited(view: View) -> View:
    """Mark a view without a limit, since machines of ours ask it."""

    @wraps(view)
    def unlimited(*args: Any, **kwargs: Any) -> HttpResponseBase:
        return view(*args, **kwargs)

    unlimited.not_limited = True  # type: ignore[attr-defined]
    return unlimited


class RateLimitMiddleware:
    """Answer 429 if an address asks more often than the settings allow."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(
        self, request: HttpRequest, view: View, args: object, kwargs: object
    ) -> HttpResponse | None:
        if getattr(view, "not_limited", False):
            return None
        seconds = seconds_to_wait(request)
        return _too_many(request, seconds) if seconds else None


def seconds_to_wait(request: HttpRequest) -> int:
    """Count the request, once; return after how many seconds to come back, 0 if it isn't too many.

    The fast lane may have counted it already, before Django.
    """
    scope = request.META.get("asgi.scope", {})
    if SECONDS not in scope:
        scope[SECONDS] = _count(request)
    seconds: int = scope[SECONDS]
    return seconds


def _count(request: HttpRequest) -> int:
    from django_ratelimit.core import get_usage  # reads settings when imported

    if request.method in ("GET", "HEAD", "OPTIONS"):
        group, allowed = "pages", settings.PAGES_PER_ADDRESS
    else:
        group, allowed = "posts", settings.POSTS_PER_ADDRESS
    if allowed is None:
        return 0
    usage = get_usage(request, group=group, key="ip", rate=allowed, increment=True)
    if usage is None or not usage["should_limit"]:
        return 0
    seconds: int = usage["time_left"]
    return max(1, seconds)


def _too_many(request: HttpRequest, seconds: int) -> HttpResponse:
    response = render(
        request, "429.html", {"seconds": seconds}, status=HTTPStatus.TOO_MANY_REQUESTS
    )
    response["Retry-After"] = str(seconds)
    return response


def client_address(request: HttpRequest) -> str:
    """The network address of the client."""
    return client_address_in(request.META)


def counters_are_shared() -> bool:
    """Whether all processes of the shop share their counters."""
    backend = type(caches["default"])
    return backend.__name__ not in ("LocMemCache", "DummyCache")
