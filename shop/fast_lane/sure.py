"""Requests that the lane is sure of, read by Django's own classes and checked by its middleware."""

from __future__ import annotations

from typing import cast

from django.conf import settings
from django.contrib.messages.storage.cookie import CookieStorage
from django.core.exceptions import DisallowedHost
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest, HttpResponse, HttpResponseForbidden
from django.middleware.csrf import CsrfViewMiddleware
from django.middleware.security import SecurityMiddleware

from shop.deployment.wsgi_threads import Scope, make_environ
from shop.middleware import request_checks
from shop.middleware.buyer import ShopRequest, cookie_name, read_key
from shop.views import basket

FORM = "application/x-www-form-urlencoded"
MOST_BYTES = 4096  # of a form; an ordinary one has 250

# The middleware whose work the lane knows. With any other, Django must see each request.
KNOWN = (
    "shop.middleware.cache_control.middleware",
    "django.middleware.security.SecurityMiddleware",
    "shop.deployment.static_files.StaticFilesMiddleware",
    "shop.middleware.content_security.middleware",
    "shop.middleware.request_checks.RequestChecksMiddleware",
    "shop.middleware.outages.OutageMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "shop.middleware.buyer.middleware",
    "shop.middleware.rate_limits.RateLimitMiddleware",
    "shop.middleware.provider_waits.middleware",
    "axes.middleware.AxesMiddleware",
)


class QuietCsrf(CsrfViewMiddleware):
    """Django's check, which only says no: Django logs and answers it afterwards."""

    def _reject(self, request: HttpRequest, reason: str) -> HttpResponseForbidden:
        return HttpResponseForbidden()


def knows_all_middleware() -> bool:
    """Whether the shop has no middleware of which the lane doesn't know."""
    return tuple(settings.MIDDLEWARE) == KNOWN


def is_plain(scope: Scope) -> bool:
    """Whether the address is plain: nothing encoded, no query, no part before it."""
    path: str = scope["path"]
    return (
        not scope["query_string"]
        and not scope.get("root_path")
        and scope.get("raw_path") in (None, path.encode("latin-1", "replace"))
    )


class Reader:
    """Reads requests; None for those of which the lane isn't sure."""

    def __init__(self) -> None:
        self._security, self._csrf = SecurityMiddleware(_never), QuietCsrf(_never)

    def page_request(self, scope: Scope) -> ShopRequest | None:
        """Read a visitor's request for a page."""
        request = self._read(scope, b"")
        if request is None or (cookie_name() in request.COOKIES and not request.buyer):
            return None  # a cookie that was signed in another way, or by somebody else
        return request

    def form_request(self, scope: Scope, body: bytes) -> ShopRequest | None:
        """Read the form of a visitor who has a buyer's cookie."""
        if scope["method"] != "POST" or len(body) > MOST_BYTES:
            return None
        request = self._read(scope, body)
        if (
            request is None
            or not request.buyer
            or request.META.get("CONTENT_TYPE") != FORM
            or request_checks.reject_size(request)
            or request_checks.reject_body(request, basket.holds)
            or self._csrf.process_view(request, basket.holds, (), {})
        ):
            return None
        return request

    def _read(self, scope: Scope, body: bytes) -> ShopRequest | None:
        request = cast(ShopRequest, WSGIRequest(make_environ(scope, body)))
        if (
            self._security.process_request(request)
            or request_checks.reject_head(request)
            or not _has_good_host(request)
            or settings.SESSION_COOKIE_NAME in request.COOKIES  # staff
            or CookieStorage.cookie_name in request.COOKIES  # notices for the next page
        ):
            return None
        self._csrf.process_request(request)
        if request.META.get("CSRF_COOKIE_NEEDS_UPDATE"):
            return None  # its CSRF cookie is broken
        request.buyer = read_key(request)
        return request


def _never(request: HttpRequest) -> HttpResponse:
    raise NotImplementedError


def _has_good_host(request: HttpRequest) -> bool:
    try:
        return bool(request.get_host())
    except DisallowedHost:
        return False
