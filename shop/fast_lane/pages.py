"""Pages that Django makes once for all visitors who have nothing, cut where visitors differ."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from io import BytesIO
from typing import Any
from uuid import UUID, uuid4

from django.core.handlers.base import BaseHandler
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import _does_token_match, get_token  # type: ignore[attr-defined]

from shop import logs
from shop.fast_lane.batches import Threads
from shop.logs.context import REQUEST_ID
from shop.middleware import rate_limits, request_metrics
from shop.middleware.buyer import CHANGED, ShopRequest, cookie_name, ensure_key, signed_key
from shop.middleware.request_ids import HEADER
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
ID_HEADER = HEADER.lower().encode()  # each answer has the id of its own request
VIEW = "shop.view"  # in the environ: a view to call in place of the address's

TOKEN = re.compile(rb"(?<![a-zA-Z0-9])([a-zA-Z0-9]{64})(?![a-zA-Z0-9])")
KEY = re.compile(rb'name="key" value="([0-9a-f-]{36})"')
HAS_KEY = re.compile(rb'name="?key\b')


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
    """The body, between random values."""
    are_keys: list[bool]
    """Whether each random value is the key of a form; else it is the token of one."""

    def fill(self, request: ShopRequest, *, key: UUID | None = None, notices: str = "") -> Answer:
        """The response to this visitor. ``key`` is the form's, ``notices`` a cookie's value."""
        body = [self.pieces[0]]
        for is_key, piece in zip(self.are_keys, self.pieces[1:], strict=True):
            own = str(key or uuid4()) if is_key else get_token(request)
            body += [own.encode(), piece]
        headers = [*self.headers, (ID_HEADER, logs.request_id().encode())]
        for name, (before, after) in self.cookies.items():
            if value := _own_cookie(name, request, notices):
                headers.append((b"set-cookie", (before + value + after).encode()))
        return Answer(self.status, headers, b"".join(body))


def _own_cookie(name: str, request: ShopRequest, notices: str) -> str:
    """The value of this cookie for the visitor; empty if it isn't to be set."""
    if name == NoticeStorage.cookie_name:
        return notices
    if name == CHANGED:
        return "1"
    if name == cookie_name():
        return "" if request.buyer else signed_key(ensure_key(request))
    is_new: bool = request.META.get("CSRF_COOKIE_NEEDS_UPDATE", False)
    return request.META["CSRF_COOKIE"] if is_new else ""


@dataclass(frozen=True)
class Kept:
    """A page that is made, or being made; None for one that isn't for everybody."""

    begun: float
    """The time at which making it began, by the monotonic clock: its stock is of then or later."""
    page: asyncio.Future[Page | None]


class Pages:
    """Keeps each page for a second; after half of it, the next one is made in the background.

    Those who find none wait for the one that is being made.
    """

    def __init__(self, threads: Threads) -> None:
        self._maker = Maker()
        self._threads = threads
        self._kept: dict[Hashable, Kept] = {}
        self._being_made: dict[Hashable, Kept] = {}

    async def get(
        self, request: ShopRequest, status: HTTPStatus, view: View | None = None, *arguments: Any
    ) -> Page | None:
        """The page at the request's address, or the one that ``view`` makes of these arguments.

        None if Django makes one of another status.
        """
        host = request.META.get("HTTP_HOST")
        name = (request.path, host, request.is_secure(), view, arguments)
        now = time.monotonic()
        kept, next_one = self._kept.get(name), self._being_made.get(name)
        if (kept is None or now - kept.begun > SECONDS_KEPT / 2) and (
            next_one is None or now - next_one.begun > SECONDS_KEPT
        ):
            making = asyncio.ensure_future(self._make(request, status, view, arguments))
            next_one = self._being_made[name] = Kept(now, making)
            making.add_done_callback(partial(self._keep, name, next_one))
        if kept is not None and now - kept.begun <= SECONDS_KEPT:
            return kept.page.result()
        assert next_one is not None
        return await asyncio.shield(next_one.page)  # a client that leaves stops it for nobody else

    def _keep(self, name: Hashable, made: Kept, _: object) -> None:
        """Use the page that has been made from now on."""
        if self._being_made.get(name) is made:
            del self._being_made[name]
        self._drop_old(time.monotonic())
        self._kept[name] = made

    async def own(self, request: ShopRequest, view: View, *arguments: Any) -> Answer:
        """The response of ``view`` to this request alone, through all middleware."""
        response = await self._threads.run(self._maker.respond, request.META, view, arguments)
        cookies = [
            (b"set-cookie", each.OutputString().encode()) for each in response.cookies.values()
        ]
        return Answer(response.status_code, _headers(response) + cookies, response.content)

    def _drop_old(self, now: float) -> None:
        if len(self._kept) >= MOST_KEPT:
            self._kept = {
                name: kept for name, kept in self._kept.items() if now - kept.begun <= SECONDS_KEPT
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
        # A page that waited for the database in vain is for everybody who waited for it.
        expected = {status, HTTPStatus.SERVICE_UNAVAILABLE} if view is None else {status}
        return cut(response, response.csrf_secret) if response.status_code in expected else None


class Maker(BaseHandler):
    """Django's handler with all its middleware. The view may be another than the address's."""

    def __init__(self) -> None:
        super().__init__()
        self.load_middleware()

    def respond(
        self, environ: dict[str, Any], view: View | None, arguments: tuple[Any, ...]
    ) -> Any:
        """The response, with the secret of its tokens as ``csrf_secret``."""
        ours = {VIEW: view and (view, arguments), request_metrics.UNCOUNTED: True}
        request: Any = WSGIRequest({**environ, **ours})
        request._dont_enforce_csrf_checks = True  # the visitor's own form was checked
        response: Any = self.get_response(request)
        response.close()
        response.csrf_secret = request.META.get("CSRF_COOKIE", "")
        return response

    def resolve_request(self, request: HttpRequest) -> Any:
        match = super().resolve_request(request)
        if request.META[VIEW] is None:
            return match
        view, arguments = request.META[VIEW]
        return view, arguments, {}


def _without_visitor(request: ShopRequest) -> dict[str, Any]:
    """The same request from a visitor of whom nothing is known."""
    kept = {name: request.META[name] for name in OF_EVERYBODY if name in request.META}
    # Its log lines have the id of the visitor who asked for it first.
    scope = {rate_limits.SECONDS: 0, REQUEST_ID: logs.request_id()}
    return {**kept, "wsgi.input": BytesIO(), "asgi.scope": scope}


def cut(response: HttpResponse, secret: str) -> Page | None:
    """Cut the response to a visitor of whom nothing is known at its random values.

    ``secret`` is that of the tokens. None if a form's key stands where it isn't found.
    """
    body = response.content
    tokens = [each.span(1) for each in TOKEN.finditer(body) if _is_token(each[1], secret)]
    keys = [each.span(1) for each in KEY.finditer(body)]
    if len(keys) < len(HAS_KEY.findall(body)):
        return None
    spans = sorted(tokens + keys)
    ends = [0, *(end for _, end in spans)]
    starts = [*(start for start, _ in spans), len(body)]
    cookies = {}
    for name, cookie in response.cookies.items():
        value = f"{name}={cookie.coded_value}"
        cookies[name] = f"{name}=", cookie.OutputString().removeprefix(value)
    return Page(
        status=response.status_code,
        headers=[header for header in _headers(response) if header[0] != ID_HEADER],
        cookies=cookies,
        pieces=[body[end:start] for end, start in zip(ends, starts, strict=True)],
        are_keys=[span in keys for span in spans],
    )


def _is_token(text: bytes, secret: str) -> bool:
    return bool(secret) and _does_token_match(text.decode(), secret)


def _headers(response: HttpResponse) -> list[Header]:
    return [(name.lower().encode(), value.encode("latin-1")) for name, value in response.items()]
