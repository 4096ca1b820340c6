"""The lane, asked without a server: an ASGI scope in, its answer out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from django.http import HttpResponseBase
from django.middleware.csrf import _get_new_csrf_string
from django.test import Client
from django.utils.crypto import get_random_string

from inventory.models import Product
from shop.fast_lane import Answer, FastLane
from shop.middleware.buyer import cookie_name, signed_key
from tests.shop.fast_lane.served import MakeShop, shops

Request = tuple[dict[str, Any], bytes]
Ask = Callable[..., list[Answer | None]]
LaneRunner = tuple[FastLane, asyncio.Runner]


@pytest.fixture
def ask() -> Ask:
    """Ask a new lane for the answers to these requests, all at once."""

    def ask_all(*requests: Request) -> list[Answer | None]:
        async def answers() -> Sequence[Answer | None]:
            asked: list[Awaitable[Answer | None]] = [lane.answer(*each) for each in requests]
            return await asyncio.gather(*asked)

        lane = FastLane()
        try:
            return list(asyncio.run(answers()))
        finally:
            lane.close()

    return ask_all


@pytest.fixture
def lane_runner() -> Iterator[LaneRunner]:
    """A lane, and the runner of its event loop."""
    lane = FastLane()
    try:
        with asyncio.Runner() as runner:
            yield lane, runner
    finally:
        lane.close()


def ask_django(request: Request, *, after_lane: bool = False) -> HttpResponseBase:
    """Django's own answer to the request; it has its cookies and body, and no other header.

    ``after_lane``: it comes by way of the lane, which has left it to Django.
    """
    sent, body = request
    headers = {name.decode(): value.decode() for name, value in sent["headers"]}
    environ: Any = {"asgi.scope": sent} if after_lane else {}
    return Client().generic(
        sent["method"],
        sent["path"],
        body,
        content_type=headers.get("content-type", ""),
        headers={"cookie": headers["cookie"]},
        **environ,
    )


@pytest.fixture
def make_shop() -> Iterator[MakeShop]:
    """A function that makes ``shop.asgi`` with the settings as they are, with the lane or not."""
    with shops() as make:
        yield make


class Browser:
    """A visitor's cookies."""

    def __init__(self) -> None:
        self.buyer = get_random_string(32)
        self.token = _get_new_csrf_string()

    def cookies(self) -> str:
        return f"csrftoken={self.token}; {cookie_name()}={signed_key(self.buyer)}"

    def page(self, path: str) -> Request:
        return scope("GET", path, {"cookie": self.cookies()}), b""

    def form(self, product: Product, quantity: int = 1, **fields: object) -> Request:
        sent = {
            "csrfmiddlewaretoken": self.token,
            "product": product.slug,
            "seen_price": product.price,
            "quantity": quantity,
            "key": uuid4(),
            **fields,
        }
        body = urlencode(sent).encode()
        headers = {
            "cookie": self.cookies(),
            "content-type": "application/x-www-form-urlencoded",
            "content-length": str(len(body)),
        }
        return scope("POST", "/basket/holds/", headers), body


def scope(method: str, path: str, headers: dict[str, str]) -> dict[str, Any]:
    """A request as a server describes it."""
    all_headers = {"host": "localhost", **headers}
    return {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in all_headers.items()],
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 40000),
    }
