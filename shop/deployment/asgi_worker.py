"""gunicorn's asgi worker, which closes connections that take too long, and never has too many.

The application gets a request once its head and a small body are there. A sender who is slow, or
stops in the middle, costs a connection and a little memory until then. So does a client who doesn't
take the answer.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any
from urllib.parse import unquote_to_bytes

from gunicorn.asgi.parser import InvalidRequestLine
from gunicorn.asgi.protocol import ASGIProtocol
from gunicorn.util import split_request_uri
from gunicorn.workers import gasgi

from shop import logs
from shop.deployment.access_log import HAS_LEFT
from shop.deployment.start import ChecksSettings
from shop.deployment.web_worker import CONTINUE, MOST_BODY, SECONDS_TO_SEND, most_connections
from shop.logs.context import REQUEST_ID

SECONDS_TO_READ = 60.0  # for a client to take the next part of an answer
SECONDS_TO_HEAR_OUT = 2.0  # for a sender to read an answer that came before all was sent
SECONDS_TO_USE = 2.0  # for a request that is on its way when the worker is stopped
SECONDS_OF_A_TURN = 0.001  # of a thread that computes, while the event loop waits
TOO_MANY = "The shop has too many visitors at this moment. Please try again in a few seconds.\n"

NEVER = float("inf")


class PatientAsgiWorker(ChecksSettings, gasgi.ASGIWorker):  # type: ignore[misc]  # it has no types
    """Looks at all connections once a second."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.worker_connections: int = self.cfg.worker_connections
        self.connections: set[PatientProtocol] = set()
        self.has_started = False

    def init_process(self) -> None:
        self.worker_connections = min(self.worker_connections, most_connections())
        sys.setswitchinterval(SECONDS_OF_A_TURN)
        ASGIProtocol._check_h1c_protocol_available()  # by this class; ours would not be asked
        gasgi.ASGIProtocol = PatientProtocol  # there is no other way to hand it to the worker
        super().init_process()

    def notify(self) -> None:
        """Close late connections, too. gunicorn calls this once a second while it listens."""
        super().notify()
        if not self.has_started:
            self.has_started = True
            for each in self.sockets:  # asyncio has shortened the queue of new connections
                each.sock.listen(self.cfg.backlog)
        self.close_late_connections()

    def close_late_connections(self) -> None:
        now = self.loop.time()
        for connection in [each for each in self.connections if each.deadline < now]:
            connection.transport.abort()

    async def _shutdown(self) -> None:
        """Wait for requests under way, but not for idle connections."""
        for connection in self.connections:
            if connection.is_idle:
                connection.close_within(SECONDS_TO_USE)
        closing = self.loop.create_task(self._keep_closing())
        await super()._shutdown()
        closing.cancel()

    async def _keep_closing(self) -> None:
        while True:
            await asyncio.sleep(0.1)
            self.close_late_connections()


class PatientProtocol(ASGIProtocol):  # type: ignore[misc]
    """One connection. It is closed at its deadline, whatever it waits for."""

    deadline = NEVER
    """By the event loop's clock."""
    is_idle = True
    """Whether nothing was sent since the connection was opened, or since the last answer."""
    body_waiter: asyncio.Future[None] | None = None
    _closed: bool

    # Called by the event loop

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.worker.connections.add(self)
        self.close_within(SECONDS_TO_SEND)
        if len(self.worker.connections) > self.worker.worker_connections:
            self._send_error_response(503, TOO_MANY, (("Retry-After", "5"),))
            self._close_transport()

    def data_received(self, data: bytes) -> None:
        if self._closed:  # the rest of a request that was rejected
            return
        if self.is_idle:
            self.is_idle = False
            self._cancel_keepalive_timer()
            self.close_within(SECONDS_TO_SEND)
        super().data_received(data)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.close_within(SECONDS_TO_READ)

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self._closed:
            self.deadline = NEVER

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self.worker.connections.discard(self)
        self._request_ready.set()  # so that its task ends now
        self._wake_body_waiter()

    # Called by gunicorn

    def _on_headers_complete(self) -> bool:
        super()._on_headers_complete()
        request = self._current_request
        if request.uri[:1] != "/" or "#" in request.uri:
            split_target(request)
        return False

    def _on_message_complete(self) -> None:
        super()._on_message_complete()
        self._wake_body_waiter()

    async def _serve_http_request(self, request: Any, sockname: Any, peername: Any) -> bool:
        """Begin once a small body is there; return whether the connection is kept."""
        if not await self._has_received_body(request):
            return False
        if not self._flow_control.write_paused:
            self.deadline = NEVER
        is_kept: bool = await super()._serve_http_request(request, sockname, peername)
        self.is_idle = bool(self._body_receiver._complete)
        return is_kept

    def _is_websocket_upgrade(self, request: Any) -> bool:
        """The shop has no WebSockets: it answers by an ordinary page."""
        return False

    def _build_environ(self, *args: Any) -> dict[str, Any]:
        """Describe a request for the access log. gunicorn calls it at the request's end."""
        request, *rest = args
        environ = super()._build_environ(request, *rest)
        # Several lines of a header are one list. gunicorn takes the last line alone.
        forwarded = [value for name, value in request.headers if name == "X-FORWARDED-FOR"]
        environ["HTTP_X_FORWARDED_FOR"] = ",".join(forwarded)
        return {**environ, HAS_LEFT: self._closed, REQUEST_ID: logs.request_id()}

    def _close_transport(self) -> None:
        """Let the client read the last answer, even if it is still sending its request."""
        if not self._closed and self._is_unread() and self.transport.can_write_eof():
            self._closed = True
            self._resume_reading()
            self.transport.write_eof()
            self.close_within(SECONDS_TO_HEAR_OUT)
        elif not self._closed:
            super()._close_transport()
            self.close_within(SECONDS_TO_READ)

    # Our own

    def close_within(self, seconds: float) -> None:
        """Close the connection after so many seconds, if not earlier."""
        self.deadline = min(self.deadline, self.worker.loop.time() + seconds)

    async def _has_received_body(self, request: Any) -> bool:
        """Wait for a small body; return False if the sender has left."""
        receiver = self._body_receiver
        if request.chunked or not 0 < request.content_length <= MOST_BODY:
            return True
        if receiver.expect_continue and not receiver._complete:
            receiver.expect_continue = False
            self._safe_write(CONTINUE)
        if not receiver._complete and not self._closed:
            self.body_waiter = self.worker.loop.create_future()
            await self.body_waiter
        return bool(receiver._complete)

    def _wake_body_waiter(self) -> None:
        if self.body_waiter and not self.body_waiter.done():
            self.body_waiter.set_result(None)

    def _is_unread(self) -> bool:
        """Whether some of a request has come, and not all."""
        return not self.is_idle and not (self._body_receiver and self._body_receiver._complete)


def split_target(request: Any) -> None:
    """Read a target that is more than a path and a query, as gunicorn's other workers do."""
    try:
        parts = split_request_uri(request.uri)
    except ValueError as error:
        raise InvalidRequestLine(request.uri) from error
    request.raw_path = (parts.path or "").encode("latin-1")
    request.path = unquote_to_bytes(request.raw_path).decode(errors="replace")
    request.query = parts.query or ""
