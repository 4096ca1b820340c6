"""Figures for Prometheus. ``RequestMetricsMiddleware`` calls this before all other middleware."""

from __future__ import annotations

from http import HTTPStatus

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.crypto import constant_time_compare
from django.views.decorators.http import require_safe

from shop.metrics import came_to_own_address


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Show the figures: at METRICS_ADDRESS to everybody, elsewhere to those with METRICS_TOKEN."""
    if not came_to_own_address(request.META):
        if not settings.METRICS_TOKEN:
            raise Http404
        sent = request.headers.get("Authorization", "")
        if not constant_time_compare(sent, f"Bearer {settings.METRICS_TOKEN}"):
            return _refuse(HTTPStatus.FORBIDDEN if sent else HTTPStatus.UNAUTHORIZED)
    from shop.metrics import exposition  # only where the metrics are on

    return HttpResponse(
        exposition.expose(), content_type=exposition.CONTENT_TYPE, headers=FOR_MACHINES
    )


FOR_MACHINES = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
}


def _refuse(status: HTTPStatus) -> HttpResponse:
    headers = {**FOR_MACHINES, "WWW-Authenticate": 'Bearer realm="metrics"'}
    text = "The header must be Authorization: Bearer TOKEN, with METRICS_TOKEN as the token.\n"
    return HttpResponse(text, content_type="text/plain", status=status, headers=headers)
