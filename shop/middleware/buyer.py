"""Who is buying: an opaque key in a signed cookie. There is no account, and no session row.

The key is all that leads to a basket and its orders, so that nobody else can know, forge or set
it: it is random, it is signed, scripts can't read it, and with HTTPS the ``__Host-`` prefix
makes browsers refuse one that was set by a neighbouring subdomain.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from django.conf import settings
from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.utils.cache import patch_vary_headers
from django.utils.crypto import get_random_string
from django_htmx.middleware import HtmxDetails

SALT = "shop.buyer"  # part of each signature: another one would take away all baskets
KEY = re.compile(r"[A-Za-z0-9_-]{32}")
KEPT_FOR = 400 * 24 * 60 * 60  # seconds: the longest that browsers allow


class ShopRequest(HttpRequest):
    """A request that went through the middleware."""

    buyer: str
    """The buyer's key; empty while somebody is only looking round."""
    htmx: HtmxDetails
    """True if a page that is open asks for a part of it."""


def cookie_name() -> str:
    return "__Host-buyer" if settings.HTTPS else "buyer"


def key_of(request: HttpRequest) -> str:
    """The buyer's key as the request brought it, empty if there is none or it isn't from us."""
    key = request.get_signed_cookie(cookie_name(), default="", salt=SALT) or ""
    return key if KEY.fullmatch(key) else ""


def old_key_of(request: HttpRequest) -> str:
    """The same, of a cookie signed as this shop did it before it used Django's signed cookies.

    Browsers bring such cookies for up to ``KEPT_FOR``; each is replaced when it comes.
    """
    try:
        key = signing.Signer(salt=SALT).unsign(request.COOKIES.get(cookie_name(), ""))
    except signing.BadSignature:
        return ""
    return key if KEY.fullmatch(key) else ""


def ensure(request: ShopRequest) -> str:
    """The buyer's key, made now if there is none.

    A page with a form to reserve calls this, so that the first form sent twice comes from one
    buyer both times.
    """
    request.buyer = request.buyer or get_random_string(32)
    return request.buyer


def middleware(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[ShopRequest], HttpResponse]:
    """Set ``request.buyer``; whoever posts something has a key from then on."""

    def handle(request: ShopRequest) -> HttpResponse:
        known = key_of(request)
        # A request that is handled again has its buyer already.
        request.buyer = getattr(request, "buyer", "") or known or old_key_of(request)
        if request.method == "POST":
            ensure(request)
        response = get_response(request)
        patch_vary_headers(response, ["Cookie"])
        if request.buyer != known:
            response.set_signed_cookie(
                cookie_name(),
                request.buyer,
                salt=SALT,
                max_age=KEPT_FOR,
                secure=settings.HTTPS,
                httponly=True,
                samesite="Lax",
            )
        return response

    return handle
