"""A WSGI application called in threads, for an ASGI server.

a2wsgi's own threads wait for the event loop at each piece of a response, and so for each client.
Here a thread fetches a whole response and is free again, at less than half of the processor time.
Clients that read slowly occupy no threads.
"""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import unquote_to_bytes

from a2wsgi.wsgi import Body, build_environ

from shop import logs

SECONDS_TO_SEND_REST = 60.0  # for a body that a thread reads, such as a picture that staff upload
PIECE = 1024**2  # bytes of a large response that are fetched at a time

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Environ = dict[str, Any]
Application = Callable[[Environ, Any], Iterable[bytes]]


class ThreadedWSGI:
    """Calls the application in one of its threads.

    Requests wait for a free thread in the order in which they came. The server cancels the call
    soon after a client has left; a request whose turn hasn't come is then never handled.
    """

    def __init__(self, application: Application, threads: int) -> None:
        self._application = application
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="wsgi")

    async def __call__(self, scope: Scope, body: bytes | Receive, send: Send) -> None:
        """Answer a request; ``body`` is all of it, or the function that receives a large one."""
        environ = make_environ(scope, body)
        pieces = fetch(self._application, environ)
        is_last = False
        while not is_last:
            loop = asyncio.get_running_loop()
            messages, is_last = await loop.run_in_executor(self._pool, logs.carry(next), pieces)
            for message in messages:
                await send(message)

    async def close(self) -> None:
        """Wait for the requests under way."""
        await asyncio.to_thread(self._pool.shutdown)


def make_environ(scope: Scope, body: bytes | Receive) -> Environ:
    """Describe a request as WSGI does. Call it in the event loop."""
    if isinstance(body, bytes):
        readable: Any = io.BytesIO(body)
    else:
        readable = Body(asyncio.get_running_loop(), with_deadline(body))  # type: ignore[arg-type]
    environ: Environ = build_environ(scope, readable)  # type: ignore[arg-type, assignment]
    # ASGI's path has lost the bytes that are not UTF-8.
    environ["PATH_INFO"] = unquote_to_bytes(scope["raw_path"]).decode("latin-1")
    environ["wsgi.errors"] = sys.stderr
    return environ


def with_deadline(receive: Receive) -> Receive:
    """Receive a whole body, or raise OSError: a sender has some time, and must not leave."""
    deadline = asyncio.get_running_loop().time() + SECONDS_TO_SEND_REST

    async def receive_in_time() -> Message:
        async with asyncio.timeout_at(deadline):
            message = await receive()
        if message["type"] != "http.request":
            raise ConnectionResetError("The sender has left in the middle of the request.")
        return message

    return receive_in_time


def fetch(application: Application, environ: Environ) -> Iterator[tuple[list[Message], bool]]:
    """Call the application; yield messages for the client, and whether they are the last ones.

    Only a large file comes in more than one piece.
    """
    messages: list[Message] = []
    chunks: list[bytes] = []

    def start(status: str, headers: list[tuple[str, str]], error: object = None) -> Any:
        encoded = [
            (name.lower().encode("latin-1"), value.strip(" \t").encode("latin-1"))
            for name, value in headers
        ]
        messages[:] = [
            {"type": "http.response.start", "status": int(status[:3]), "headers": encoded}
        ]
        return chunks.append

    def piece(is_last: bool) -> tuple[list[Message], bool]:
        body = b"".join(chunks)
        chunks.clear()
        if is_last and messages and body:
            add_length(messages[0]["headers"], len(body))
        start_and_body = [
            *messages,
            {"type": "http.response.body", "body": body, "more_body": not is_last},
        ]
        messages.clear()
        return start_and_body, is_last

    response = application(environ, start)
    try:
        for chunk in response if environ["REQUEST_METHOD"] != "HEAD" else ():
            chunks.append(chunk)
            if sum(map(len, chunks)) >= PIECE:
                yield piece(is_last=False)
    finally:
        getattr(response, "close", lambda: None)()
    yield piece(is_last=True)


def add_length(headers: list[tuple[bytes, bytes]], length: int) -> None:
    """Say how long a body is, if nobody did: clients of HTTP/1.0 couldn't see its end."""
    if not any(name == b"content-length" for name, _ in headers):
        headers.append((b"content-length", str(length).encode()))
