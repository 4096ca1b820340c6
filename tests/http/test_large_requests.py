"""A request that is too large is rejected by its head, before its body is read or stored."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path

import pytest

from tests.http.conftest import APPS, Served, serve

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

SECONDS = 60
MB = 1024**2
PART = b'--x\r\nContent-Disposition: form-data; name="a"; filename="a.bin"\r\n\r\n'
ADDRESSES = ["/admin/login/", "/basket/holds/", "/payments/demo/events/", "/no/such/page/"]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory for bodies that are too large for the web server's memory."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="module", params=APPS)
def shop(django_db_setup: None, kept: Path, request: pytest.FixtureRequest) -> Iterator[Served]:
    yield from serve(request.param, WEB_CONCURRENCY="1", TMPDIR=str(kept))


def connect(shop: Served, address: str, *head: str) -> socket.socket:
    connection = socket.create_connection((shop.host, shop.port), timeout=SECONDS)
    lines = [
        f"POST {address} HTTP/1.1",
        f"Host: {shop.bind}",
        "Content-Type: multipart/form-data; boundary=x",
        *head,
    ]
    connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
    return connection


def answer(connection: socket.socket) -> tuple[int, str]:
    response = HTTPResponse(connection)
    response.begin()
    return response.status, response.read().decode()


def test_the_answer_comes_before_the_body(shop: Served, kept: Path) -> None:
    before = sorted(kept.iterdir())
    for address in ADDRESSES:
        with connect(shop, address, f"Content-Length: {300 * MB}") as connection:
            status, page = answer(connection)
        assert status == (404 if "such" in address else 413), address
        assert status == 404 or "up to 64.0" in page
    assert sorted(kept.iterdir()) == before


def test_a_sender_may_go_on_while_it_reads_the_answer(shop: Served) -> None:
    """Else it might lose the answer: a connection that is reset forgets what has come."""
    with connect(shop, "/basket/holds/", f"Content-Length: {5 * MB}") as connection:
        assert answer(connection)[0] == 413
        for _ in range(2):
            connection.sendall(PART)
            time.sleep(0.2)
        assert connection.recv(1) == b""


def test_nothing_is_written_to_disk_of_a_body_that_is_sent_all_the_same(
    shop: Served, kept: Path
) -> None:
    before = sorted(kept.iterdir())
    for address in ADDRESSES:
        with connect(shop, address, f"Content-Length: {5 * MB}") as connection:
            with contextlib.suppress(OSError):  # the server doesn't listen any more
                connection.sendall(PART + b"y" * 4 * MB)  # enough to be kept in a file
            assert answer(connection)[0] in (404, 413)
            assert sorted(kept.iterdir()) == before, address
        assert sorted(kept.iterdir()) == before, address


def test_a_chunked_body(shop: Served, kept: Path) -> None:
    before = sorted(kept.iterdir())
    for address in ADDRESSES[:3]:
        with connect(shop, address, "Transfer-Encoding: chunked") as connection:
            connection.sendall(b"%x\r\n%s\r\n" % (len(PART), PART))
            status, _ = answer(connection)
        assert status == 411, address
    assert sorted(kept.iterdir()) == before


@pytest.mark.parametrize(
    "chunks",
    [
        b"zz\r\nabc\r\n0\r\n\r\n",
        b"3\r\na=bXX0\r\n\r\n",
        b"0\r\nX-/: a trailer\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
def test_broken_chunks_get_one_answer(shop: Served, chunks: bytes) -> None:
    """The client would take a second one for the answer to its next request."""
    with connect(shop, "/basket/holds/", "Transfer-Encoding: chunked") as connection:
        connection.sendall(chunks)
        received = connection.recv(65536)
        connection.settimeout(1)  # for a second one
        with contextlib.suppress(TimeoutError):
            while piece := connection.recv(65536):
                received += piece
    assert received.count(b"HTTP/1.1 4") == 1, received


def test_a_body_that_is_shorter_than_announced(shop: Served, kept: Path) -> None:
    before = sorted(kept.iterdir())
    with connect(shop, "/basket/holds/", "Content-Length: 60000") as connection:
        connection.sendall(PART + b"y" * 1000)
        connection.shutdown(socket.SHUT_WR)
        assert (
            connection.recv(1) == b""
        )  # it was no whole request: the server doesn't wait for the rest
    assert sorted(kept.iterdir()) == before


def test_the_shop_answers_others_meanwhile(shop: Served) -> None:
    waiting = [connect(shop, "/admin/login/", f"Content-Length: {300 * MB}") for _ in range(20)]
    try:
        with connect(shop, "/basket/holds/", "Content-Length: 0") as connection:
            assert answer(connection)[0] in (403, 404)
    finally:
        for each in waiting:
            each.close()
