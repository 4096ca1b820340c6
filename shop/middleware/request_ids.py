"""Each request has an id, which its answer and its log lines repeat (``shop.logs``).

A client or a proxy may give it by ``X-Request-ID``. ``shop.asgi`` chooses it before the fast lane
is asked, which puts it into its answers itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any
from weakref import ref

from django.http import HttpRequest, HttpResponse

from shop import logs
from shop.logs.context import REQUEST_ID, choose_request_id

HEADER = "X-Request-ID"
PLAIN_PART = re.compile(r"[A-Za-z0-9._~-]*")  # of a path


def middleware(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Let the log lines be about this request, and give its id back."""

    def handle(request: HttpRequest) -> HttpResponse:
        request_id = _request_id(request)
        request.META[REQUEST_ID] = request_id  # for the access log
        logs.begin(request_id, sent=partial(_sent_texts, ref(request)))
        response = get_response(request)
        response[HEADER] = request_id
        return response

    return handle


def begin_asgi_request(scope: dict[str, Any]) -> None:
    """Choose the id of a request before the fast lane or Django answers it."""
    given = b",".join(value for name, value in scope["headers"] if name == b"x-request-id")
    scope[REQUEST_ID] = choose_request_id(given.decode("latin-1"))
    logs.begin(scope[REQUEST_ID])


def begin_wsgi_request(environ: dict[str, Any]) -> None:
    """Choose the id of a request that somebody answers without Django."""
    environ[REQUEST_ID] = choose_request_id(environ.get("HTTP_X_REQUEST_ID", ""))
    logs.begin(environ[REQUEST_ID])


def _request_id(request: HttpRequest) -> str:
    """The id that was chosen before Django was asked, or one that is chosen now."""
    scope = request.META.get("asgi.scope", {})
    chosen: str = request.META.get(REQUEST_ID) or scope.get(REQUEST_ID, "")
    return chosen or choose_request_id(request.headers.get(HEADER, ""))


def _sent_texts(find_request: Callable[[], HttpRequest | None]) -> Iterator[str]:
    """The texts that the visitor has typed, as far as Django has read them already."""
    request = find_request()
    if request is None:  # it is over
        return
    for part in request.path_info.split("/"):
        if not PLAIN_PART.fullmatch(part):
            yield part
    read: Iterable[Any] = (request.__dict__.get("GET"), request.__dict__.get("_post"))
    for fields in filter(None, read):
        for _, values in fields.lists():
            yield from map(str, values)
