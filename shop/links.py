"""Full addresses of the shop's pages, for e-mails and payment providers.

They come from the setting BASE_URL, never from the port in a request's Host header: a request
may claim any port, and the link in the e-mail would lead there.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest
from django.http.request import split_domain_port

THIS_MACHINE = {"localhost", "127.0.0.1", "[::1]"}


def absolute_url(request: HttpRequest, path: str) -> str:
    """The full address of the shop's page at ``path``.

    Without BASE_URL it has the host name of the request, which is one of ALLOWED_HOSTS. For a
    shop on this machine it also has the port on which the web server listens.
    """
    return (settings.BASE_URL or _guessed_url(request)) + path


def own_hosts(request: HttpRequest) -> set[str]:
    """The names of the hosts in ``absolute_url``: of the setting, and of this request."""
    urls = (settings.BASE_URL, _guessed_url(request))
    return {host for url in urls if (host := urlsplit(url).hostname)}


def _guessed_url(request: HttpRequest) -> str:
    name, _ = split_domain_port(request.get_host())
    port = str(request.META.get("SERVER_PORT", ""))
    usual = {"http": "80", "https": "443"}[request.scheme or "http"]
    has_port = name in THIS_MACHINE and port.isdecimal() and port != usual
    return f"{request.scheme}://{name}:{port}" if has_port else f"{request.scheme}://{name}"
