"""The HTTP server: one thread for each connection, all on 127.0.0.1."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from .exchange import Answer, Request
from .faults import ConnectionLost

LONGEST_IDLE = 60.0  # seconds for which a connection is kept without a request


class Server(ThreadingHTTPServer):
    """Listens from the start, and answers between ``start`` and ``stop``."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, port: int, answer: Callable[[Request], Answer]) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.answer = answer
        self.ending = threading.Event()
        self._connections: set[socket.socket] = set()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Close the port and all connections: nobody gets an answer any more."""
        self.ending.set()
        self.shutdown()
        self._thread.join()
        self.server_close()
        for connection in list(self._connections):
            _close(connection)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing about clients that went away, as a shop that was killed does."""
        if not isinstance(sys.exception(), OSError | ValueError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Reads a request, and sends the answer, unless the connection shall be lost."""

    server: Server
    protocol_version = "HTTP/1.1"
    timeout = LONGEST_IDLE
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        request = Request(
            method=self.command,
            path=address.path,
            query=address.query,
            headers={name.lower(): value for name, value in self.headers.items()},
            body=self.rfile.read(int(self.headers.get("Content-Length") or 0)),
        )
        try:
            self._send(self.server.answer(request))
        except ConnectionLost:
            self.close_connection = True
            _close(self.connection)

    do_POST = do_DELETE = do_PUT = do_HEAD = do_GET

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if answer.drip_seconds:
            self._drip(answer)
        else:
            self.wfile.write(answer.body)

    def _drip(self, answer: Answer) -> None:
        """Send the body byte by byte: each comes soon, so that no timeout of a read helps."""
        for position in range(len(answer.body)):
            self.wfile.write(answer.body[position : position + 1])
            self.server.ending.wait(answer.drip_seconds / len(answer.body))

    def log_message(self, format: str, *args: Any) -> None:
        """The stand-in has a log of its own."""


def _close(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the client has closed it already
        connection.shutdown(socket.SHUT_RDWR)
