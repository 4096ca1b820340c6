"""``shop.asgi`` in this process, with the lane or without; and its answers, ready to compare."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime
from http.cookies import SimpleCookie
from typing import Any

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.db import connections
from django.http import HttpRequest
from django.middleware.csrf import _unmask_cipher_token  # type: ignore[attr-defined]
from django.utils import timezone

from inventory.models import Product, Reservation
from shop import asgi
from shop.deployment.wsgi_threads import Message, Scope, ThreadedWSGI
from shop.fast_lane import Answer, FastLane
from shop.middleware import buyer
from shop.middleware.request_checks import hide_other_charsets
from shop.models import HoldAddress, Order, Refusal
from shop.notice_storage import NoticeStorage

UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?<=quantity-)[0-9a-f]{32}")
CSRF_TOKEN = re.compile(r'(?<=name="csrfmiddlewaretoken" value=")[^"]*')
EXPIRES = re.compile(r"(?<=expires=)[^;]*")
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Response:
    """An answer as it goes to the server."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def header(self, name: str) -> list[str]:
        wanted = name.lower().encode()
        return [value.decode("latin-1") for each, value in self.headers if each.lower() == wanted]

    @property
    def cookies(self) -> SimpleCookie:
        """The cookies that it sets."""
        found = SimpleCookie()
        for text in self.header("Set-Cookie"):
            found.load(text)
        return found


class CountingLane(FastLane):
    """A lane that counts its answers."""

    def __init__(self) -> None:
        super().__init__()
        self.answered = 0

    async def answer(self, scope: Scope, body: bytes) -> Answer | None:
        answer = await super().answer(scope, body)
        self.answered += answer is not None
        return answer

    def drop_pages(self) -> None:
        """Drop the pages that it keeps for a second."""
        self._pages._kept.clear()


class Shop:
    """``shop.asgi``, called by an event loop in the test's own thread."""

    def __init__(self, patch: pytest.MonkeyPatch, runner: asyncio.Runner, *, lane: bool) -> None:
        self._patch = patch
        self._runner = runner
        self.lane = CountingLane() if lane else None
        # With the settings as they are now: shop.wsgi has read them when it was imported.
        self.django = ThreadedWSGI(hide_other_charsets(WSGIHandler()), threads=1)

    @property
    def answered(self) -> int:
        """Requests that the lane answered itself."""
        return self.lane.answered if self.lane else 0

    def ask(self, scope: Scope, body: bytes = b"") -> Response:
        """The answer to one request."""
        return self.ask_all((scope, body))[0]

    def ask_all(self, *requests: tuple[Scope, bytes]) -> list[Response]:
        """The answers to requests that come at the same moment."""
        self._patch.setattr(asgi, "lane", self.lane)
        self._patch.setattr(asgi, "threaded_django", self.django)

        async def ask_each() -> list[Response]:
            return list(await asyncio.gather(*(_ask(*request) for request in requests)))

        return self._runner.run(ask_each())

    def close(self) -> None:
        if self.lane:
            self.lane.close()
        self.django._pool.submit(connections.close_all)
        self.django._pool.shutdown()


async def _ask(scope: Scope, body: bytes) -> Response:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    # A request of its own: what the shop notes in the scope belongs to this one.
    await asgi.application({**scope, "headers": list(scope["headers"])}, receive, send)
    start, *parts = sent
    return Response(start["status"], start["headers"], b"".join(part["body"] for part in parts))


MakeShop = Callable[..., Shop]


@contextmanager
def shops() -> Iterator[MakeShop]:
    """A function that makes a shop; all of them are closed at the end."""
    made: list[Shop] = []
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner() as runner:

        def make(*, lane: bool) -> Shop:
            made.append(Shop(patch, runner, lane=lane))
            return made[-1]

        try:
            yield make
        finally:
            for each in made:
                each.close()


# Answers and tables, without what is random in them


def comparable(response: Response, sent: dict[str, str]) -> dict[str, Any]:
    """The response with a word in place of each random value.

    ``sent`` are the values of the request that the response may repeat, each with its name: the
    buyer's key, the secret of the CSRF cookie, the form's key.
    """
    known = dict(sent)
    cookies = response.cookies
    if "csrftoken" in cookies:
        known.setdefault(cookies["csrftoken"].value, "a new secret")
    headers = [
        (name.decode().lower(), _comparable_header(name.decode().lower(), value, known))
        for name, value in response.headers
    ]
    text = response.body.decode("utf-8", "replace")
    text = CSRF_TOKEN.sub(lambda token: _name_of_token(token[0], known), text)
    text = UUID.sub(lambda found: known.get(found[0], "an id"), text)
    return {"status": response.status, "headers": headers, "body": text}


def _comparable_header(name: str, value: bytes, known: dict[str, str]) -> str:
    text = value.decode("latin-1").strip()  # Django puts a space before a cookie
    if name == "expires":
        return _days_from_now(text)
    if name == "x-request-id":
        return "an id" if re.fullmatch("[0-9a-f]{16}", text) else text
    if name != "set-cookie":
        return text
    cookie_name, _, rest = text.partition("=")
    _, semicolon, attributes = rest.partition(";")
    attributes = EXPIRES.sub(lambda date: _days_from_now(date[0]), attributes)
    return f"{cookie_name}={_comparable_cookie(cookie_name, text, known)}{semicolon}{attributes}"


def _days_from_now(date: str) -> str:
    left = parsedate_to_datetime(date) - timezone.now()
    return "the past" if left < -DAY else f"in {left / DAY:.2f} days"


def _comparable_cookie(name: str, text: str, known: dict[str, str]) -> str:
    value = SimpleCookie(text)[name].value
    if name == "csrftoken":
        return known.get(value, "an unknown secret")
    if name == buyer.cookie_name():
        return _name_of_buyer(name, value, known)
    if name == NoticeStorage.cookie_name and value:
        request = HttpRequest()
        request.COOKIES[name] = value
        messages = [(each.level, each.message, each.extra_tags) for each in NoticeStorage(request)]
        assert messages, f"The cookie is signed in another way: {value}"
        return UUID.sub(lambda found: known.get(found[0], "an id"), json.dumps(messages))
    return value


def _name_of_buyer(name: str, value: str, known: dict[str, str]) -> str:
    request = HttpRequest()
    request.COOKIES[name] = value
    key = buyer.read_key(request)
    assert key, f"The cookie is signed in another way: {value}"
    return known.get(key, "a new buyer")


def _name_of_token(token: str, known: dict[str, str]) -> str:
    """The name of the secret that a form's token is made of."""
    assert len(token) == 64
    return known.get(_unmask_cipher_token(token), "an unknown secret")


def tables(known_buyers: set[str]) -> dict[str, list[Any]]:
    """All that a request to reserve may change, without ids, times and new buyers' keys."""

    def hide(text: str, key: str) -> str:
        return text if key in known_buyers else text.replace(key, "a new buyer")

    holds = [
        (
            hold.product.slug,
            hold.quantity,
            hold.status,
            hold.unit_price,
            hold.strategy,
            hide(hold.buyer, hold.buyer),
            hide(hold.idempotency_key or "", hold.buyer),
            round((hold.expires_at - hold.created_at) / timedelta(minutes=1)),
            hold.decided_at is None,
        )
        for hold in Reservation.objects.select_related("product")
    ]
    made = set(Reservation.objects.values_list("pk", flat=True))
    addresses = [
        (each.network, each.quantity, each.reservation_id in made)
        for each in HoldAddress.objects.all()
    ]
    return {
        "products": list(
            Product.objects.order_by("slug").values_list("slug", "stock", "units_received")
        ),
        "holds": sorted(holds, key=str),
        "addresses": sorted(addresses),
        "refusals": sorted(Refusal.objects.values_list("product__slug", "quantity")),
        "orders": sorted(Order.objects.values_list("buyer", "state")),
    }
