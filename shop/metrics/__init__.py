"""Figures for Prometheus, at ``/metrics``: off unless METRICS_TOKEN or METRICS_ADDRESS is set.

- ``counters``: counters and histograms of each process. They start anew with the web server.
- ``multiprocess``: where gunicorn's processes keep them, so that each can show those of all.
- ``collectors``: figures of the database, one statement for each collector, read at each scrape.
- ``exposition``: all of it in Prometheus' format.

Only these modules import prometheus_client. While the metrics are off, nothing imports them.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from django.conf import settings

PATH = "/metrics"
BEGAN = "shop.began"
"""In the ASGI scope: when the request was there, by ``time.perf_counter``."""


def are_on() -> bool:
    """Whether anything is counted and shown."""
    return bool(settings.METRICS_TOKEN or settings.METRICS_ADDRESS)


def is_own_address(host: str, port: int) -> bool:
    """Whether a server that listens there is the one of METRICS_ADDRESS."""
    if settings.METRICS_ADDRESS is None or port != settings.METRICS_ADDRESS[1]:
        return False
    own: str = settings.METRICS_ADDRESS[0]
    return host == own or ip_address(own).is_unspecified


def came_to_own_address(environ: Mapping[str, Any]) -> bool:
    """Whether a request, as WSGI describes it, came to METRICS_ADDRESS."""
    port = environ.get("SERVER_PORT", "")
    return port.isdigit() and is_own_address(environ.get("SERVER_NAME", ""), int(port))
