"""Pages that Django makes once for all visitors who have nothing, cut where visitors differ."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from http import HTTPStatus
from io import BytesIO
from typing import Any, cast
from uuid import UUID, uuid4

from django.core.handlers.base import BaseHandler
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token

from shop.fast_lane.batches import Threads
from shop.middleware import rate_limits
from shop.middleware.buyer import ShopRequest, cookie_name, ensure_key, signed_key
from shop.notice_storage import NoticeStorage

log = logging.getLogger(__name__)

SECONDS_KEPT = 1.0  # the oldest stock that a page may show
MOST_KEPT = 1000  # pages; then those that are too old are dropped

View = Callable[..., HttpResponse]
Header = tuple[bytes, bytes]

# A page may depend on these, whoever asks.
OF_EVERYBODY = (
    *("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "SERVER_PROTOCOL"),
    *("SERVER_NAME", "SERVER_PORT", "HTTP_HOST", "HTTP_X_FORWARDED_PROTO", "wsgi.url_scheme"),
)
VIEW = "shop.view"  # in the environ: a view to call in place of the address's

RANDOM = re.compile(
    rb'((?<=name="csrfmiddlewaretoken" value=")[a-zA-Z0-9]{64}'
    rb'|(?<=name="key" value=")[0-9a-f-]{36})'
)
LENGTH_OF_KEY = 36


@dataclass(frozen=True)
class Answer:
    """An HTTP response."""

    status: int
    headers: list[Header]
    body: bytes


@dataclass(frozen=True)
class Page:
    """A response of Django's to a visitor who has nothing, cut at its random values."""

    status: int
    headers: list[Header]
    cookies: dict[str, tuple[str, str]]
    """The text before and after the value of each cookie that it sets."""
    pieces: list[bytes]
    """The body: every second piece is the token of a form, or the key of one."""

    def fill(self, request: ShopRequest, *, key: UUID | None = None, notices: str = "") -> Answer:
        """The response to this visitor. ``key`` is the form's, ``notices`` a cookie's value."""
        pieces = self.pieces.copy()
        for place in range(1, len(pieces), 2):
            is_key = len(pieces[place]) == LENGTH_OF_KEY
            pieces[place] = str(key or uuid4()).encode() if is_key else get_token(request).encode()
        headers = self.headers.copy()
        for name, (before, after) in self.cookies.items():
            if value := _own_cookie(name, request, notices):
                headers.append((b"Set-Cookie", (before + value + after).encode()))
        return Answer(self.status, headers, b"".join(pieces))


def _own_cookie(name: str, request: ShopRequest, notices: str) -> str:
    """The value of this cookie for the visitor; empty if it isn't to be set."""
    if name == NoticeStorage.cookie_name:
        return notices
    if name == cookie_name():
        return "" if request.buyer else signed_key(ensure_key(request))
    is_new: bool = request.META.get("CSRF_COOKIE_NEEDS_UPDATE", False)
    return request.META["CSRF_COOKIE"] if is_new else ""


class Pages:
    """Keeps each page for a second. Those who ask while it is being made wait for it."""

    def __init__(self, threads: Threads) -> None:
        self._maker = Maker()
        self._threads = threads
        self._kept: dict[Hashable, tuple[float, asyncio.Future[Page | None]]] = {}

    async def get(
        self, request: ShopRequest, status: HTTPStatus, view: View | None = None, *arguments: Any
    ) -> Page | None:
        """The page at the request's address, or the one that ``view`` makes of these arguments.

        None if Django makes one of another status.
        """
        host = request.META.get("HTTP_HOST")
        name = (request.path, host, request.is_secure(), view, arguments)
        now = time.monotonic()
        begun, page = self._kept.get(name, (0.0, None))
        if page is None or now - begun > SECONDS_KEPT:
            self._drop_old(now)
            page = asyncio.ensure_future(self._make(request, status, view, arguments))
            self._kept[name] = now, page
        if page.done():
            return page.result()
        return await asyncio.shield(page)  # a client that leaves stops it for nobody else

    async def own(self, request: ShopRequest, view: View, *arguments: Any) -> Answer:
        """The response of ``view`` to this request alone, through all middleware."""
        response = await self._threads.run(self._maker.respond, request.META, view, arguments)
        cookies = [
            (b"Set-Cookie", each.OutputString().encode()) for each in response.cookies.values()
        ]
        return Answer(response.status_code, _headers(response) + cookies, response.content)

    def _drop_old(self, now: float) -> None:
        if len(self._kept) >= MOST_KEPT:
            self._kept = {
                name: kept for name, kept in self._kept.items() if now - kept[0] <= SECONDS_KEPT
            }

    async def _make(
        self,
        request: ShopRequest,
        status: HTTPStatus,
        view: View | None,
        arguments: tuple[Any, ...],
    ) -> Page | None:
        environ = _without_visitor(request)
        try:
            response = await self._threads.run(self._maker.respond, environ, view, arguments)
        except Exception as error:
            log.warning("The fast lane leaves %s to Django: %s", request.path, error)
            return None
        return cut(response) if response.status_code == status else None


class Maker(BaseHandler):
    """Django's handler with all its middleware. The view may be another than the address's."""

    def __init__(self) -> None:
        super().__init__()
        self.load_middleware()

    def respond(
        self, environ: dict[str, Any], view: View | None, arguments: tuple[Any, ...]
    ) -> HttpResponse:
        request: Any = WSGIRequest({**environ, VIEW: view and (view, arguments)})
        request._dont_enforce_csrf_checks = True  # the visitor's own form was checked
        response = self.get_response(request)
        response.close()
        return cast(HttpResponse, response)

    def resolve_request(self, request: HttpRequest) -> Any:
        match = super().resolve_request(request)
        if request.META[VIEW] is None:
            return match
        view, arguments = request.META[VIEW]
        return view, arguments, {}


def _without_visitor(request: ShopRequest) -> dict[str, Any]:
    """The same request from a visitor of whom nothing is known."""
    kept = {name: request.META[name] for name in OF_EVERYBODY if name in request.META}
    return {**kept, "wsgi.input": BytesIO(), "asgi.scope": {rate_limits.SECONDS: 0}}


def cut(response: HttpResponse) -> Page:
    """Cut the response to a visitor of whom nothing is known at its random values."""
    cookies = {}
    for name, cookie in response.cookies.items():
        value = f"{name}={cookie.coded_value}"
        cookies[name] = f"{name}=", cookie.OutputString().removeprefix(value)
    return Page(response.status_code, _headers(response), cookies, RANDOM.split(response.content))


def _headers(response: HttpResponse) -> list[Header]:
    return [(name.encode(), value.encode("latin-1")) for name, value in response.items()]
