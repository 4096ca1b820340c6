"""The buyer of a request: an opaque key in a signed cookie, without an account or a session row.

The key alone leads to a basket and its orders. So nobody else must be able to know, forge or set
it: it is random, it is signed, and scripts can't read it. With HTTPS, the ``__Host-`` prefix makes
browsers reject a cookie that was set by a neighbouring subdomain.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

from django.conf import settings
from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.utils.cache import patch_vary_headers
from django.utils.crypto import get_random_string
from django_htmx.middleware import HtmxDetails

from shop.cookie_signers import cookie_signer

SALT = "shop.buyer"  # part of each signature: changing it would take away all baskets
KEY = re.compile(r"[A-Za-z0-9_-]{32}")
KEPT_FOR = timedelta(days=400)  # the longest that browsers allow
# The cookie of a buyer who may have changed something a moment ago, where pages may come from a
# replica: until that has the change, pages come from the primary (shop/delayed_pages.py).
CHANGED = "changed"
SECONDS_OF_COPIES = 2  # how old a page of the fast lane may be, beside the replica's lag, and more


class ShopRequest(HttpRequest):
    """A request that has passed the middleware."""

    buyer: str
    """The buyer's key; empty while the visitor only looks round."""
    htmx: HtmxDetails
    """True if an open page asks for a part of itself."""


def cookie_name() -> str:
    return "__Host-buyer" if settings.HTTPS else "buyer"


def read_key(request: HttpRequest) -> str:
    """Read the buyer's key from the request's cookie; empty if it has none that we signed."""
    try:
        key = _signer().unsign(request.COOKIES.get(cookie_name(), ""))
    except signing.BadSignature:
        return ""
    return key if KEY.fullmatch(key) else ""


def read_old_key(request: HttpRequest) -> str:
    """Read the key from a cookie that this shop signed in an earlier way.

    First it used a signer of its own, then ``set_signed_cookie``, whose signatures depend on
    Django's version. Browsers send such cookies for up to ``KEPT_FOR``. Each is replaced when it
    comes.
    """
    try:
        key = signing.Signer(salt=SALT).unsign(request.COOKIES.get(cookie_name(), ""))
    except signing.BadSignature:
        key = request.get_signed_cookie(cookie_name(), default="", salt=SALT) or ""
    return key if KEY.fullmatch(key) else ""


def signed_key(key: str) -> str:
    """The value of the cookie for this key."""
    return _signer().sign(key)


def _signer() -> signing.TimestampSigner:
    return cookie_signer(cookie_name() + SALT)


def ensure_key(request: ShopRequest) -> str:
    """Return the buyer's key; make one if there is none.

    A page with a form to reserve calls this. So a first form that is sent twice comes from the
    same buyer both times.
    """
    request.buyer = request.buyer or get_random_string(32)
    return request.buyer


def middleware(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[ShopRequest], HttpResponse]:
    """Set ``request.buyer``. A visitor who posts a form has a key from then on."""

    def handle(request: ShopRequest) -> HttpResponse:
        known = read_key(request)
        # A request that is handled again has its buyer already.
        request.buyer = getattr(request, "buyer", "") or known or read_old_key(request)
        if request.method == "POST":
            ensure_key(request)
        response = get_response(request)
        patch_vary_headers(response, ["Cookie"])
        if settings.REPLICA_URL and request.buyer and may_have_changed(request):
            lag = settings.REPLICA_MOST_LAG + timedelta(seconds=SECONDS_OF_COPIES)
            _set_cookie(response, CHANGED, "1", lag)
        if request.buyer != known:
            _set_cookie(response, cookie_name(), signed_key(request.buyer), KEPT_FOR)
        return response

    return handle


def _set_cookie(response: HttpResponse, name: str, value: str, max_age: timedelta) -> None:
    response.set_cookie(
        name, value, max_age=max_age, secure=settings.HTTPS, httponly=True, samesite="Lax"
    )


def may_have_changed(request: HttpRequest) -> bool:
    """Whether the request may have changed what its buyer sees: all but pages that only show."""
    if request.method not in ("GET", "HEAD"):
        return True
    match = request.resolver_match
    only_shows = match is None or not match.url_name or getattr(match.func, "only_shows", False)
    return not only_shows
