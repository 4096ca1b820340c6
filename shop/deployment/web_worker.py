"""gunicorn's threaded worker, which gives threads only to complete requests.

gunicorn reads a request in the thread that handles it. A sender who is slow, or stops in the
middle, would occupy that thread without end. A few dozen such senders would occupy all
threads. Here the main loop, which waits for all connections, collects what comes in. It closes the
connections that take too long.
"""

from __future__ import annotations

import contextlib
import re
import resource
import time
from functools import partial
from selectors import EVENT_READ
from typing import Any

from gunicorn.http.errors import ParseException
from gunicorn.http.unreader import SocketUnreader
from gunicorn.workers.gthread import TConn, ThreadWorker

from shop import logs, metrics
from shop.deployment.start import ChecksSettings

SECONDS_TO_SEND = 10.0  # for a request, as far as it is collected
SECONDS_TO_SEND_REST = 60.0  # of a large body, such as a picture that staff uploads
MOST_HEAD = 64 * 1024  # bytes; gunicorn refuses larger ones
MOST_BODY = 64 * 1024  # bytes that are collected; a thread reads a larger body itself
AT_ONCE = 64 * 1024  # bytes
MOST_FILES = 65_536  # that a worker asks for, connections among them
FILES_OF_OUR_OWN = 256  # such as connections to the database

LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,15})[ \t]*\r\n", re.IGNORECASE)
EXPECT = re.compile(rb"\r\nexpect:[ \t]*100-continue[ \t]*\r\n", re.IGNORECASE)
LIVEZ_REQUEST = re.compile(rb"(GET|HEAD) /livez(\?[^ ]*)? HTTP/1\.[01]\r\n(.+\r\n)*\r\n")
ALIVE = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 3\r\n"
    b"Cache-Control: no-store\r\nConnection: close\r\n\r\n"
)
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class PatientWorker(ChecksSettings, ThreadWorker):  # type: ignore[misc]  # it has no types
    """Collects each request in the main loop before a thread gets it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.collecting: dict[TConn, Collected] = {}

    def init_process(self) -> None:
        self.worker_connections = min(self.cfg.worker_connections, most_connections())
        super().init_process()

    def handle(self, conn: TConn) -> Any:
        """Handle a request in a thread, whose log lines are not about its last one any more."""
        logs.begin("")
        return super().handle(conn)

    def enqueue_req(self, conn: TConn) -> None:
        """Collect a request from a connection that is new, or was kept alive."""
        if self.cfg.is_ssl:  # only the thread can decrypt it
            super().enqueue_req(conn)
            return
        conn.sock.setblocking(False)
        begun = conn.parser.unreader.take_buffered() if conn.parser else b""
        self.collecting[conn] = Collected(begun)
        self.poller.register(conn.sock, EVENT_READ, partial(self.collect, conn))
        self.collect(conn, conn.sock)

    def collect(self, conn: TConn, client: Any) -> None:
        """Take the bytes that came; give the request to a thread once it is complete."""
        collected = self.collecting[conn]
        try:
            has_left = not collected.is_enough() and not collected.receive(client)
        except BlockingIOError:
            return
        except OSError:
            has_left = True
        if has_left:
            self.drop(conn)
        elif LIVEZ_REQUEST.match(collected.data) and not is_for_metrics(conn):
            # It must not wait for a thread.
            with contextlib.suppress(OSError):  # nobody waits for the answer
                client.send(ALIVE if collected.data.startswith(b"HEAD") else ALIVE + b"ok\n")
            self.drop(conn)
        elif collected.is_enough():
            self.hand_over(conn, bytes(collected.data))

    def hand_over(self, conn: TConn, data: bytes) -> None:
        self.stop_collecting(conn)
        conn.data_ready = True
        conn.init()
        conn.parser.unreader = Rest(conn.sock)
        conn.parser.unreader.unread(data)
        super().enqueue_req(conn)

    def _keepalive_after(self, conn: TConn, keepalive: bool) -> bool:
        """Return whether the connection is kept, after a request was answered.

        gunicorn reads only now what the shop has not read of the body. If that is broken, it would
        answer once more, and the client would take that for the answer to its next request.
        """
        try:
            return bool(super()._keepalive_after(conn, keepalive))
        except ParseException:
            return False

    def stop_collecting(self, conn: TConn) -> None:
        del self.collecting[conn]
        self.poller.unregister(conn.sock)

    def drop(self, conn: TConn) -> None:
        """Close a connection whose request is not complete."""
        self.stop_collecting(conn)
        self.nr_conns -= 1
        conn.close()

    def murder_pending(self) -> None:
        """Close connections that take too long. gunicorn calls this at least once a second."""
        super().murder_pending()
        begun_before = time.monotonic() - SECONDS_TO_SEND
        for conn, collected in list(self.collecting.items()):
            is_idle = not self.alive and not collected.data
            if collected.begun < begun_before or is_idle:
                self.drop(conn)


def is_for_metrics(conn: TConn) -> bool:
    """Whether the connection came to METRICS_ADDRESS, where only the metrics are."""
    return isinstance(conn.server, tuple) and metrics.is_own_address(*conn.server[:2])


class Collected:
    """The bytes of a request so far."""

    def __init__(self, data: bytes) -> None:
        self.begun = time.monotonic()
        self.data = bytearray(data)
        self.was_asked_for = False

    def receive(self, client: Any) -> bool:
        """Take bytes that came; False if the sender has left. Raises BlockingIOError, OSError."""
        self.ask_for_body(client)
        received = client.recv(AT_ONCE)
        self.data += received
        self.ask_for_body(client)
        return bool(received)

    def ask_for_body(self, client: Any) -> None:
        """Ask a sender for the body who waits for that, once. gunicorn asks once more later."""
        end = self.data.find(b"\r\n\r\n")
        head = self.data[: end + 4]
        waits = b" HTTP/1.1\r\n" in head and EXPECT.search(head)
        if end >= 0 and waits and not self.was_asked_for and not self.is_enough():
            self.was_asked_for = True
            client.send(CONTINUE)

    def is_enough(self) -> bool:
        """Whether a thread need not wait, or may read the rest by itself."""
        end = self.data.find(b"\r\n\r\n")
        if end < 0:
            return len(self.data) > MOST_HEAD or b"\n\n" in self.data  # gunicorn refuses these
        head = self.data[: end + 4]
        length = LENGTH.search(head)
        if length is None:
            return True
        body = int(length[1])
        return body > MOST_BODY or len(self.data) >= len(head) + body


class Rest(SocketUnreader):  # type: ignore[misc]
    """Reads the rest of a request in a thread, up to a deadline: all of it, or an error."""

    def __init__(self, sock: Any) -> None:
        super().__init__(sock)
        self.deadline = time.monotonic() + SECONDS_TO_SEND_REST

    def chunk(self, size_hint: int | None = None) -> bytes:
        """The next piece. Raises TimeoutError, or ConnectionResetError if the sender has left."""
        before = self.sock.gettimeout()
        left = max(0.001, self.deadline - time.monotonic())
        self.sock.settimeout(left if before is None else min(left, before))
        try:
            piece: bytes = super().chunk(size_hint)
        finally:
            self.sock.settimeout(before)
        if not piece:
            raise ConnectionResetError("The sender has left in the middle of the request.")
        return piece


def most_connections() -> int:
    """How many connections this process can take.

    It raises the process's limit on open files first, as far as it may.
    """
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if most == resource.RLIM_INFINITY else min(most, MOST_FILES)
    if now < wanted:
        with contextlib.suppress(OSError, ValueError):  # macOS has another limit, too
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
            now = wanted
    return now - FILES_OF_OUR_OWN
