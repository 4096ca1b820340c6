"""The answers to machines that look after the shop: ``/livez`` and ``/healthz``.

They must come when all else is stuck. ``/livez`` asks nothing of threads or of the database.
``/healthz`` has a thread of its own, and a limit on its time: a database that hangs (its machine
stands still, its network is cut) keeps each thread that asks it, and sends no error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from http import HTTPStatus
from typing import Any, NamedTuple

from shop import logs, metrics
from shop.deployment.wsgi_threads import Environ, Scope, make_environ
from shop.middleware import request_ids

LIVEZ = "/livez"
HEALTHZ = "/healthz"
SECONDS_TO_ANSWER = 5.0  # for /healthz; then it says that the database hangs

Application = Callable[[Environ, Any], Iterable[bytes]]


class Answer(NamedTuple):
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def for_asgi(self) -> list[dict[str, Any]]:
        """The messages of ASGI that send it."""
        headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in self.headers]
        return [
            {"type": "http.response.start", "status": self.status, "headers": headers},
            {"type": "http.response.body", "body": self.body},
        ]


class HealthChecks:
    """A WSGI application: answers the health checks, and leaves all else to ``application``."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="healthz")

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        path = environ.get("PATH_INFO")
        if path in (LIVEZ, HEALTHZ):
            request_ids.begin_wsgi_request(environ)
        if path == LIVEZ and not metrics.came_to_own_address(environ):
            answer = liveness(environ["REQUEST_METHOD"])
        elif path == HEALTHZ:
            answer = self._readiness_in_time(environ)
        else:
            return self._application(environ, start_response)
        start_response(f"{answer.status} {HTTPStatus(answer.status).phrase}", answer.headers)
        return [answer.body]

    async def answer(self, scope: Scope) -> Answer | None:
        """The answer to a health check, given in the event loop; None if the request is none.

        The request's body isn't waited for.
        """
        if scope["path"] == LIVEZ:
            return liveness(scope["method"])
        if scope["path"] != HEALTHZ:
            return None
        environ = make_environ(scope, b"")
        try:
            async with asyncio.timeout(SECONDS_TO_ANSWER):
                return await asyncio.wrap_future(self._begin(environ))
        except TimeoutError:
            return hanging(environ["REQUEST_METHOD"])

    def _readiness_in_time(self, environ: Environ) -> Answer:
        begun = self._begin(environ)
        try:
            return begun.result(SECONDS_TO_ANSWER)
        except TimeoutError:
            begun.cancel()  # if its turn hasn't come yet
            return hanging(environ["REQUEST_METHOD"])

    def _begin(self, environ: Environ) -> Future[Answer]:
        return self._thread.submit(logs.carry(call), self._application, environ)


def liveness(method: str) -> Answer:
    """The answer of a process that can still answer."""
    if method not in ("GET", "HEAD"):
        refusal = plain_text(method, HTTPStatus.METHOD_NOT_ALLOWED, "Only GET and HEAD.\n")
        refusal.headers.append(("Allow", "GET, HEAD"))
        return refusal
    return plain_text(method, HTTPStatus.OK, "ok\n")


def hanging(method: str) -> Answer:
    """The answer about a database that lets us wait."""
    words = f"The database does not answer within {SECONDS_TO_ANSWER:.0f} seconds.\n"
    return plain_text(method, HTTPStatus.SERVICE_UNAVAILABLE, words)


def plain_text(method: str, status: HTTPStatus, words: str) -> Answer:
    body = words.encode()
    headers = [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        (request_ids.HEADER, logs.request_id()),
    ]
    return Answer(status, headers, b"" if method == "HEAD" else body)


def call(application: Application, environ: Environ) -> Answer:
    """The whole answer of the application."""
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start(status: str, headers: list[tuple[str, str]], error: object = None) -> None:
        started[:] = [(status, headers)]

    response = application(environ, start)
    try:
        body = b"" if environ["REQUEST_METHOD"] == "HEAD" else b"".join(response)
    finally:
        getattr(response, "close", lambda: None)()
    [(status, headers)] = started
    return Answer(int(status[:3]), headers, body)
