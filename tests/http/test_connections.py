"""Connections that are many, slow or gone: they stop nobody, and the server can be stopped."""

from __future__ import annotations

import contextlib
import http.client
import resource
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import MakeProduct
from tests.http.conftest import APPS, OTHER_DEADLINES, Served, serve, serving
from tests.http.shopper import Shopper
from tests.shop.programs import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

MANY = 5000
SECONDS = 30  # for an answer
LONG = {"LOCK_TIMEOUT": "120", "STATEMENT_TIMEOUT": "120"}
HALVES = [
    b"",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: ",
    b"POST /basket/holds/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900\r\n\r\na=",
]


def connect(shop: Served, sent: bytes = b"") -> socket.socket:
    connection = socket.create_connection((shop.host, shop.port), timeout=SECONDS)
    connection.sendall(sent)
    return connection


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def status_of(shop: Served, path: str = "/healthz") -> int:
    try:
        with urllib.request.urlopen(f"{shop.url}{path}", timeout=SECONDS) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.fixture
def many_files() -> Iterator[None]:
    """As many open files as the test's connections need."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < 2 * MANY:
        pytest.skip(f"This machine allows only {most} open files.")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (now, most))


@pytest.mark.parametrize("app", APPS)
def test_thousands_of_connections_stop_nobody(
    app: str, many_files: None, make_product: MakeProduct
) -> None:
    product = make_product(1)
    with contextlib.ExitStack() as stack:
        shop = stack.enter_context(serving(app, OTHER_DEADLINES, SECONDS_TO_SEND="600"))
        for number in range(MANY):
            stack.enter_context(connect(shop, HALVES[number % len(HALVES)]))
        for _ in range(10):
            assert status_of(shop) == 200
        assert "Thank you" in Shopper(shop.url, 1).buy(product.slug).html


def test_more_connections_than_allowed_are_told_so(django_db_setup: None) -> None:
    variables = {"WEB_CONCURRENCY": "1", "GUNICORN_CMD_ARGS": "--worker-connections 20"}
    with serving(**variables) as shop:
        silent = [connect(shop) for _ in range(20)]
        with connect(shop, get("/healthz")) as one_too_many:
            answer = http.client.HTTPResponse(one_too_many)
            answer.begin()
            assert answer.status == 503
            assert answer.headers["Retry-After"]
        for each in silent:
            each.close()
        wait_until(lambda: status_of(shop) == 200, "the shop answers again")


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("media")
    (directory / "large.bin").write_bytes(bytes(range(256)) * 40_000)
    return directory


@pytest.fixture(scope="module")
def two_threads(django_db_setup: None, media: Path) -> Iterator[Served]:
    """One process with two threads, and little time for those who don't read."""
    yield from serve(
        "shop.asgi",
        OTHER_DEADLINES,
        SECONDS_TO_READ="2",
        SECONDS_TO_SEND_REST="2",
        WEB_CONCURRENCY="1",
        WEB_THREADS="2",
        MEDIA_ROOT=str(media),
    )


def test_clients_that_do_not_read_stop_nobody_and_are_closed(
    two_threads: Served, media: Path
) -> None:
    slow = [connect(two_threads, get("/media/large.bin")) for _ in range(10)]
    try:
        assert status_of(two_threads) == 200
        wait_until(lambda: established(two_threads) == 0, "the connections are closed")
        with contextlib.suppress(ConnectionResetError):
            received = b""
            while piece := slow[0].recv(1024**2):
                received += piece
        assert len(received) < 10_000_000
    finally:
        for each in slow:
            each.close()


def established(shop: Served) -> int:
    """The number of clients' connections that the web workers have open."""
    return sum(
        each.status == "ESTABLISHED" and each.laddr[1] == shop.port
        for worker in shop.web_workers()
        for each in worker.net_connections()
    )


def test_a_large_file_comes_whole(two_threads: Served, media: Path) -> None:
    with urllib.request.urlopen(f"{two_threads.url}/media/large.bin", timeout=SECONDS) as answer:
        assert answer.read() == (media / "large.bin").read_bytes()
