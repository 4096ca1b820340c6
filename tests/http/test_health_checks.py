"""A shop whose database hangs, and whose threads all wait for it, still answers health checks."""

from __future__ import annotations

import http.client
import signal
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import psutil
import pytest

from tests.http.conftest import APPS, OTHER_DEADLINES, Served, serving
from tests.pgbouncer import pgbouncer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

SECONDS = 60  # for an answer, on a machine with other work
THREADS = 2
ALIVE, HANGING = (200, b"ok\n"), (503, b"The database does not answer within 1 seconds.\n")


@pytest.mark.parametrize("app", APPS)
def test_a_database_that_hangs(django_db_setup: None, app: str) -> None:
    few = {"WEB_CONCURRENCY": "1", "WEB_THREADS": str(THREADS), "SECONDS_TO_ANSWER": "1"}
    by_https = {"HTTPS": "true", "BEHIND_PROXY": "true"}
    with pgbouncer() as url:
        [bouncer] = [each for each in psutil.Process().children() if each.name() == "pgbouncer"]
        with serving(app, OTHER_DEADLINES, DATABASE_URL=url, **few, **by_https) as shop:
            see_out(visit(shop) for _ in range(10 * THREADS))  # each thread has its connection now
            with standing_still(bouncer):
                assert ask(shop, "GET", "/healthz") == HANGING
                visitors = [visit(shop) for _ in range(THREADS)]
                for _ in range(3):
                    assert ask(shop, "GET", "/livez") == ALIVE
                assert ask(shop, "HEAD", "/livez") == (200, b"")
                if app == "shop.asgi":  # whose event loop needs none of the threads
                    assert ask(shop, "GET", "/healthz") == HANGING
                    assert ask(shop, "HEAD", "/healthz") == (503, b"")
            see_out(visitors)
            assert ask(shop, "GET", "/healthz")[0] == 200


@contextmanager
def standing_still(process: psutil.Process) -> Iterator[None]:
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def visit(shop: Served) -> socket.socket:
    """Ask for a page that needs the database, and don't wait for it."""
    visitor = socket.create_connection((shop.host, shop.port), SECONDS)
    visitor.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-Proto: https\r\n\r\n")
    return visitor


def see_out(visitors: Iterable[socket.socket]) -> None:
    for visitor in list(visitors):
        assert visitor.recv(12) == b"HTTP/1.1 200"
        visitor.close()


def ask(shop: Served, method: str, path: str) -> tuple[int, bytes]:
    """The status and the body of an answer to a machine, which asks by the shop's address."""
    connection = http.client.HTTPConnection(shop.host, shop.port, timeout=SECONDS)
    try:
        headers = {"Host": "10.0.0.7", "X-Request-ID": "probe-1"}
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        assert path == "/livez" or answer.getheader("X-Request-ID") == "probe-1"
        return answer.status, answer.read()
    finally:
        connection.close()
