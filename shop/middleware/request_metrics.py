"""Requests by view and status, with their seconds; and the answers to Prometheus.

It is outside of nearly all other middleware, so that it counts what they answer. Prometheus asks
each machine by its own address, over HTTP: neither ALLOWED_HOSTS nor HTTPS must stand in its way.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from http import HTTPStatus

from django.conf import settings
from django.core.exceptions import MiddlewareNotUsed
from django.http import HttpRequest, HttpResponse

from shop.metrics import BEGAN, PATH, are_on, came_to_own_address
from shop.views import metrics

UNCOUNTED = "shop.uncounted"
"""In the environ of a request that nobody sent: the fast lane asks Django for a page."""


class RequestMetricsMiddleware:
    """Count each request, and answer those for the metrics. It isn't there while they are off."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        if not are_on():
            raise MiddlewareNotUsed
        from shop.metrics import counters

        counters.listen()
        self.get_response = get_response
        self.count = counters.count_request

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if UNCOUNTED in request.META:
            return self.get_response(request)
        began = request.META.get("asgi.scope", {}).get(BEGAN) or time.perf_counter()
        response, view = self._answer(request)
        self.count(view, response.status_code, time.perf_counter() - began)
        return response

    def _answer(self, request: HttpRequest) -> tuple[HttpResponse, str]:
        """The response, and the name by which its view is counted."""
        if request.path_info == PATH:
            return metrics.metrics(request), "metrics"
        if came_to_own_address(request.META):
            text = f"Only {PATH} is here.\n"
            return HttpResponse(text, "text/plain", HTTPStatus.NOT_FOUND), "unknown"
        return self.get_response(request), view_name(request)


def view_name(request: HttpRequest) -> str:
    """The name of the view that answered; one for all of the admin, and one for what has no view.

    There must not be many: each is a dozen time series, for each status.
    """
    match = request.resolver_match
    if match is None:
        return "static" if request.path_info.startswith(settings.STATIC_URL) else "unknown"
    if match.route.startswith("admin/"):
        return "admin"
    return match.view_name
