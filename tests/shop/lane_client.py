"""Lets Django's test client ask the fast lane first, in the test's own thread and transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from io import BytesIO
from typing import Any
from urllib.parse import urlencode

import pytest
from django.core.handlers.wsgi import WSGIRequest
from django.core.signals import request_finished
from django.db import close_old_connections
from django.http import HttpResponse
from django.middleware.csrf import _get_new_csrf_string
from django.test import Client
from django.test.client import ClientHandler
from django.urls import reverse
from django.utils.crypto import get_random_string

from shop.fast_lane import Answer, FastLane
from shop.fast_lane.batches import Threads
from shop.middleware.buyer import cookie_name, signed_key

Environ = dict[str, Any]


class LaneClients:
    """All clients of a test: each of their requests goes to the lane first, then to Django."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.answered = 0
        """Requests that the lane answered itself."""
        patch.setattr(Threads, "run", _run_here)
        send, handle = Client.request, ClientHandler.__call__
        patch.setattr(
            Client,
            "request",
            lambda client, **request: send(client, **_as_browser(client, request)),
        )
        patch.setattr(
            ClientHandler,
            "__call__",
            lambda handler, environ: self._answer(handle, handler, environ),
        )

    def _answer(
        self, handle: Callable[..., Any], handler: ClientHandler, environ: Environ
    ) -> HttpResponse:
        body = environ["wsgi.input"].read() if int(environ.get("CONTENT_LENGTH") or 0) else b""
        scope = _scope(environ)
        lane = FastLane()  # which keeps no page from before
        request_finished.disconnect(close_old_connections)  # as Django's test client does
        answer = asyncio.run(lane.answer(scope, body))
        request_finished.connect(close_old_connections)
        lane.close()
        if answer is None:
            environ = {**environ, "wsgi.input": BytesIO(body), "asgi.scope": scope}
            response: HttpResponse = handle(handler, environ)
            return response
        self.answered += 1
        return _response(answer, environ)


async def _run_here(_: Threads, work: Callable[..., Any], *args: object) -> Any:
    """Do the work in this thread. Where a loop is running, Django has no connection of the test."""
    loop = asyncio.get_running_loop()
    asyncio._set_running_loop(None)
    try:
        return work(*args)
    finally:
        asyncio._set_running_loop(loop)


def _as_browser(client: Client, request: Environ) -> Environ:
    """The form to reserve as a browser sends it: with cookies, and not as multipart."""
    is_form = request.get("PATH_INFO") == reverse("basket-holds")
    if not is_form or not request.get("CONTENT_TYPE", "").startswith("multipart/"):
        return request
    if cookie_name() not in client.cookies:
        client.cookies[cookie_name()] = signed_key(get_random_string(32))
    if "csrftoken" not in client.cookies:
        client.cookies["csrftoken"] = _get_new_csrf_string()
    any_client: Any = client
    fields = WSGIRequest({**any_client._base_environ(), **request}).POST
    token = client.cookies["csrftoken"].value
    body = urlencode([*_pairs(fields), ("csrfmiddlewaretoken", token)]).encode()
    return {
        **request,
        "CONTENT_TYPE": "application/x-www-form-urlencoded",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": BytesIO(body),
    }


def _pairs(fields: Any) -> list[tuple[str, str]]:
    return [(name, value) for name, values in fields.lists() for value in values]


def _scope(environ: Environ) -> dict[str, Any]:
    headers = [
        (
            name.removeprefix("HTTP_").replace("_", "-").lower().encode(),
            str(value).encode("latin-1"),
        )
        for name, value in environ.items()
        if name.startswith("HTTP_") or (name in ("CONTENT_TYPE", "CONTENT_LENGTH") and value)
    ]
    if "HTTP_HOST" not in environ:
        headers.append((b"host", environ["SERVER_NAME"].encode()))
    raw_path = environ["PATH_INFO"].encode("latin-1")
    return {
        "type": "http",
        "http_version": "1.1",
        "method": environ["REQUEST_METHOD"],
        "scheme": environ["wsgi.url_scheme"],
        "path": raw_path.decode("utf-8", "replace"),
        "raw_path": raw_path,
        "root_path": "",
        "query_string": environ["QUERY_STRING"].encode("latin-1"),
        "headers": headers,
        "server": (environ["SERVER_NAME"], int(environ["SERVER_PORT"])),
        "client": (environ["REMOTE_ADDR"], 40000),
    }


def _response(answer: Answer, environ: Environ) -> HttpResponse:
    response: Any = HttpResponse(answer.body, status=answer.status)
    del response["Content-Type"]
    for name, value in answer.headers:
        if name.lower() == b"set-cookie":
            response.cookies.load(value.decode("latin-1"))
        else:
            response[name.decode()] = value.decode("latin-1")
    if "Location" in response:
        response.url = response["Location"]
    response.wsgi_request = WSGIRequest({**environ, "wsgi.input": BytesIO()})
    made: HttpResponse = response
    return made
