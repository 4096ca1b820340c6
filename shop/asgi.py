"""The ASGI application that gunicorn serves: the fast lane first, then Django in threads.

``shop.wsgi`` is the same shop without the lane.
"""

from __future__ import annotations

import asyncio
import time

from django.conf import settings

from shop.wsgi import application as django  # sets Django up for all below

# isort: split
from shop import metrics
from shop.deployment.wsgi_threads import Receive, Scope, Send, ThreadedWSGI
from shop.fast_lane import FastLane
from shop.middleware.request_ids import begin_asgi_request

lane = FastLane() if settings.FAST_LANE else None
threaded_django = ThreadedWSGI(django, settings.WEB_THREADS)
# Prometheus has a thread of its own: it must see a rush that keeps all others busy.
scrapes = ThreadedWSGI(django, threads=1) if metrics.are_on() else None


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await answer_request(scope, receive, send)
    elif scope["type"] == "lifespan":
        await live(receive, send)


async def answer_request(scope: Scope, receive: Receive, send: Send) -> None:
    """Ask the fast lane, then Django. The server has collected a small body (asgi_worker.py).

    Django alone answers a large body, or one of unknown length, since it rejects most of them
    before they have come. Health checks wait neither for a body nor for Django's threads.
    """
    begin_asgi_request(scope)
    if scrapes:
        scope[metrics.BEGAN] = time.perf_counter()
        server = scope.get("server") or ("", 0)
        if scope["path"] == metrics.PATH or metrics.is_own_address(*server):
            await scrapes(scope, receive, send)
            return
    if health := await django.answer(scope):
        for message in health.for_asgi():
            await send(message)
        return
    if not has_small_body(scope):
        await threaded_django(scope, receive, send)
        return
    body = await read_body(receive)
    if body is None:
        return
    answer = await lane.answer(scope, body) if lane else None
    if answer is None:
        await threaded_django(scope, body, send)
        return
    start = {"type": "http.response.start", "status": answer.status, "headers": answer.headers}
    await send(start)
    await send({"type": "http.response.body", "body": answer.body})


def has_small_body(scope: Scope) -> bool:
    """Whether the body's announced size is that of a form, or nothing."""
    headers: dict[bytes, bytes] = dict(scope["headers"])
    size = headers.get(b"content-length", b"0")
    return (
        b"transfer-encoding" not in headers
        and size.isdigit()
        and len(size) < 10
        and int(size) <= settings.MOST_FORM_BYTES
    )


async def read_body(receive: Receive) -> bytes | None:
    """The whole body; None if the sender has left."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += bytes(message.get("body", b""))
        if not message.get("more_body"):
            return body


async def live(receive: Receive, send: Send) -> None:
    """Take part in the server's start and stop: it stops once Django's threads are done."""
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await threaded_django.close()
    if scrapes:
        await scrapes.close()
    if lane:
        await asyncio.to_thread(lane.close)
    await send({"type": "lifespan.shutdown.complete"})
