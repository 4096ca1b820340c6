"""Requests that the lane is sure of, read by Django's own classes and checked by its middleware."""

from __future__ import annotations

import re
from typing import Any, cast

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest, HttpResponse, HttpResponseForbidden
from django.middleware.csrf import CsrfViewMiddleware
from django.middleware.security import SecurityMiddleware

from shop.deployment.wsgi_threads import Scope, make_environ
from shop.middleware.buyer import CHANGED, ShopRequest, cookie_name, read_key
from shop.middleware.request_checks import NUL
from shop.notice_storage import NoticeStorage
from shop.views import basket

FORM = "application/x-www-form-urlencoded"
MOST_HOSTS = 1000
PLAIN_FORM = re.compile(rb"[-A-Za-z0-9._=&]{1,1000}")

# The middleware whose work the lane knows. Another one may join them only if it looks at no single
# visitor and rejects no request: it never sees a visitor of the lane, only the page for everybody.
KNOWN = (
    "shop.middleware.request_ids.middleware",
    "shop.middleware.cache_control.middleware",
    "shop.middleware.request_metrics.RequestMetricsMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "shop.deployment.static_files.StaticFilesMiddleware",
    "shop.middleware.content_security.middleware",
    "shop.middleware.request_checks.RequestChecksMiddleware",
    "shop.middleware.outages.OutageMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "shop.middleware.common.CommonMiddleware",
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
KNOWN_CONTEXT = {
    "django.template.context_processors.request",
    "django.contrib.auth.context_processors.auth",
    "django.contrib.messages.context_processors.messages",
    "shop.context_processors.basket",
}


class QuietCsrf(CsrfViewMiddleware):
    """Django's check, which only says no: Django logs and answers it afterwards."""

    def _reject(self, request: HttpRequest, reason: str) -> HttpResponseForbidden:
        return HttpResponseForbidden()


def strange_settings() -> list[str]:
    """The settings that are not as the lane knows them: Django must see each request then."""
    engine: Any = settings.TEMPLATES[0]
    are_known = {
        "MIDDLEWARE": tuple(settings.MIDDLEWARE) == KNOWN,
        "TEMPLATES": len(settings.TEMPLATES) == 1
        and set(engine["OPTIONS"]["context_processors"]) == KNOWN_CONTEXT,
        "MESSAGE_STORAGE": settings.MESSAGE_STORAGE == "shop.notice_storage.NoticeStorage",
        "CSRF_USE_SESSIONS": not settings.CSRF_USE_SESSIONS,
        "USE_X_FORWARDED_HOST": not settings.USE_X_FORWARDED_HOST,
        "USE_X_FORWARDED_PORT": not settings.USE_X_FORWARDED_PORT,
    }
    return [name for name, is_known in are_known.items() if not is_known]


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
        self._good_hosts: set[str | None] = set()

    def page_request(self, scope: Scope, body: bytes) -> ShopRequest | None:
        """Read a visitor's request for a page."""
        request = self._read(scope, body, content_type="")
        if request is None or (cookie_name() in request.COOKIES and not request.buyer):
            return None  # a cookie that was signed in another way, or by somebody else
        if settings.REPLICA_URL and CHANGED in request.COOKIES:
            return None  # the page for everybody may be from before the visitor's own change
        return request

    def form_request(self, scope: Scope, body: bytes) -> ShopRequest | None:
        """Read the form of a visitor who has a buyer's cookie."""
        fields = read_fields(body)
        if scope["method"] != "POST" or fields is None:
            return None
        request = self._read(scope, body, content_type=FORM)
        if request is None or not request.buyer:
            return None
        request.POST = cast(Any, fields)  # it is only asked for single fields
        if self._csrf.process_view(request, basket.holds, (), {}):
            return None
        return request

    def _read(self, scope: Scope, body: bytes, content_type: str) -> ShopRequest | None:
        request = cast(ShopRequest, WSGIRequest(make_environ(scope, body)))
        if (
            request.META.get("CONTENT_TYPE", "") != content_type
            or request.META.get("CONTENT_LENGTH", "0") != str(len(body))
            or not self._has_good_host(request)
            or self._security.process_request(request)
            or not _has_plain_cookies(request)
        ):
            return None
        self._csrf.process_request(request)
        if request.META.get("CSRF_COOKIE_NEEDS_UPDATE"):
            return None  # its CSRF cookie is broken
        request.buyer = read_key(request)
        return request

    def _has_good_host(self, request: HttpRequest) -> bool:
        """Whether ALLOWED_HOSTS has its host. Django is asked once for each."""
        host = request.META.get("HTTP_HOST")
        if host in self._good_hosts:
            return True
        try:
            request.get_host()
        except DisallowedHost:
            return False
        if len(self._good_hosts) < MOST_HOSTS:
            self._good_hosts.add(host)
        return True


def read_fields(body: bytes) -> dict[str, str] | None:
    """The fields of a form, as Django reads them; None if one is encoded, or there twice."""
    if not PLAIN_FORM.fullmatch(body):
        return None
    pairs = [pair.split("=") for pair in body.decode().split("&")]
    if any(len(pair) != 2 for pair in pairs):
        return None
    fields = dict(pairs)
    return fields if len(fields) == len(pairs) else None


def _never(request: HttpRequest) -> HttpResponse:
    raise NotImplementedError


def _has_plain_cookies(request: HttpRequest) -> bool:
    """Whether this is neither staff nor a visitor with notices, and no cookie has a NUL."""
    cookies = request.COOKIES
    return (
        settings.SESSION_COOKIE_NAME not in cookies
        and NoticeStorage.cookie_name not in cookies
        and not any(NUL in value for value in cookies.values())
    )
