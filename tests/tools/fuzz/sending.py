"""Sending requests to the drill's web servers, each on a connection of its own."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from http.client import HTTPException, HTTPResponse
from pathlib import Path

import psutil

from tests.tools.fuzz.checks import NO_ANSWER, SLOW
from tests.tools.fuzz.wire import Answer, Request

SECONDS = 20.0  # for an answer
SECONDS_OF_SILENCE = 0.3  # after which we leave a server that waits for the rest of a request
TRIES = 5  # more of them, if an answer was slow: the machine may have been busy
PAUSE = 0.2  # seconds between them
STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d\d\d)")


class WebServer:
    """Where requests go: a web server of the drill's own, on this machine."""

    def __init__(self, host: str, port: int, pid: int) -> None:
        """``pid`` is the process that started the others."""
        self.address = host, port
        self._master = psutil.Process(pid)
        self._processes = self._running()

    def has_lost_a_process(self) -> bool:
        """Whether a process has ended since the start, or was replaced."""
        return self._running() != self._processes

    def _seconds_without_processor(self) -> float:
        """How long the web server's threads have waited for a processor; 0 if nobody knows."""
        tasks = [Path(f"/proc/{process.pid}/task") for process in self._processes]
        waited = 0
        for file in (file for task in tasks for file in task.glob("*/schedstat")):
            with contextlib.suppress(OSError):  # the thread has ended
                waited += int(file.read_text().split()[1])
        return waited / 1e9

    def _running(self) -> list[psutil.Process]:
        try:
            return [self._master, *self._master.children()]
        except psutil.Error:
            return []

    def ask(self, request: Request) -> Answer:
        """Send a request, and return the answer.

        A slow one is sent again: it is slow only if the quickest of all answers is, less the time
        in which the web server waited for a processor.
        """
        answer = self._ask_once(request)
        for _ in range(TRIES):
            if answer.seconds <= SLOW or answer.status == NO_ANSWER:
                break
            time.sleep(PAUSE)
            before = self._seconds_without_processor()
            again = self._ask_once(request).seconds
            waited = self._seconds_without_processor() - before
            answer.seconds = min(answer.seconds, again - max(0.0, waited))
        return answer

    def _ask_once(self, request: Request) -> Answer:
        begun = time.monotonic()
        with socket.create_connection(self.address, timeout=SECONDS) as connection:
            with contextlib.suppress(OSError):  # rejected before all of it was sent
                connection.sendall(request.as_bytes())
            read = read_answer if request.raw is None else read_answers
            answer = read(connection, request)
        answer.seconds = time.monotonic() - begun if request.raw is None else 0.0
        return answer


def read_answer(connection: socket.socket, request: Request) -> Answer:
    response = HTTPResponse(connection, method=request.method)
    try:
        response.begin()
        return Answer(response.status, response.getheaders(), response.read())
    except TimeoutError:
        return Answer(NO_ANSWER)
    except (OSError, HTTPException):
        return Answer(0)  # the connection was closed without an answer


def read_answers(connection: socket.socket, request: Request) -> Answer:
    """All that comes in answer to bytes that are no request, until the server falls silent.

    A server that waits for more must close the connection when we do.
    """
    received, is_closed = receive(connection, SECONDS_OF_SILENCE)
    if not received and not is_closed and request.is_whole:
        received, is_closed = receive(connection, SECONDS)
    if not is_closed:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        more, is_closed = receive(connection, SECONDS)
        received += more
    statuses = [int(status) for status in STATUS_LINE.findall(received) if status != b"100"]
    head, _, body = received.partition(b"\r\n\r\n")
    if not is_closed:
        return Answer(NO_ANSWER)
    headers = [
        (name.strip(), value.strip())
        for name, colon, value in (
            line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:]
        )
    ]
    status = max(statuses, default=0)
    return Answer(status, headers, body, count=len(statuses))


def receive(connection: socket.socket, seconds: float) -> tuple[bytes, bool]:
    """The bytes that come before a silence of so many seconds; and whether that is the end."""
    received = b""
    connection.settimeout(seconds)
    try:
        while piece := connection.recv(65536):
            received += piece
    except TimeoutError:
        return received, False
    except OSError:
        pass
    return received, True
