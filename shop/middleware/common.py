"""Django's CommonMiddleware, which lets health checks come by any name or address."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponsePermanentRedirect
from django.middleware import common

from shop.deployment.health_checks import HEALTHZ, LIVEZ


class CommonMiddleware(common.CommonMiddleware):
    """A load balancer asks each machine by its address, which isn't in ALLOWED_HOSTS."""

    def process_request(self, request: HttpRequest) -> HttpResponsePermanentRedirect | None:
        if request.path_info in (LIVEZ, HEALTHZ):
            return None
        return super().process_request(request)
