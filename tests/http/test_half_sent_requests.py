"""Senders who stop in the middle, or send drop by drop: they stop nobody else, and are closed."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import socket
import threading
import urllib.request
from collections.abc import Iterator

import pytest

from shop.deployment.web_worker import Rest
from tests.conftest import MakeProduct
from tests.http.conftest import APPS, OTHER_DEADLINES, Served, serve
from tests.http.shopper import Shopper

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

MANY = 50  # more than the threads of two web workers
MOST_SECONDS = 30
HEADS = {
    "head": b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: ",
    "body": b"POST /basket/holds/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900\r\n\r\na=",
    "nothing": b"",
    "a body that was asked for": (
        b"POST /basket/holds/ HTTP/1.1\r\nHost: localhost\r\n"
        b"Expect: 100-continue\r\nContent-Length: 900\r\n\r\n"
    ),
}


@pytest.fixture(scope="module", params=APPS)
def web(django_db_setup: None, request: pytest.FixtureRequest) -> Iterator[Served]:
    yield from serve(request.param, OTHER_DEADLINES, SECONDS_TO_SEND="3", WEB_THREADS="8")


def drip(connections: list[socket.socket], over: threading.Event) -> None:
    while not over.wait(0.5):
        for each in connections:
            with contextlib.suppress(OSError):
                each.send(b"a")


def test_half_sent_requests_stop_nobody_and_are_closed(web: Served) -> None:
    over = threading.Event()
    with contextlib.ExitStack() as stack:
        address = (web.host, web.port)
        slow = {
            sent: [stack.enter_context(socket.create_connection(address)) for _ in range(MANY)]
            for sent in HEADS
        }
        for sent, connections in slow.items():
            for each in connections:
                each.sendall(HEADS[sent])
        talkative = [each for sent in slow if sent != "nothing" for each in slow[sent]]
        dripping = threading.Thread(target=drip, args=(talkative, over))
        dripping.start()
        try:
            for _ in range(10):
                urllib.request.urlopen(f"{web.url}/healthz", timeout=MOST_SECONDS).close()
            for each in itertools.chain(*slow.values()):
                each.settimeout(MOST_SECONDS)
                with contextlib.suppress(ConnectionResetError), each.makefile("rb") as received:
                    assert received.read() in (b"", b"HTTP/1.1 100 Continue\r\n\r\n")
        finally:
            over.set()
            dripping.join()


def test_requests_may_come_in_pieces_and_one_after_the_other(web: Served) -> None:
    with socket.create_connection((web.host, web.port), MOST_SECONDS) as sender:
        for _ in range(3):
            for piece in (b"GET /hea", b"lthz HTTP/1.1\r\nHost: local", b"host\r\n\r", b"\n"):
                sender.sendall(piece)
            answer = http.client.HTTPResponse(sender)
            answer.begin()
            assert (answer.status, answer.read().splitlines()[0]) == (200, b"ok")
        sender.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2)
        received = b""
        while received.count(b"ok\n") < 2:
            received += sender.recv(65536)


def test_a_sender_is_asked_for_a_body(web: Served) -> None:
    head = b"POST /basket/holds/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n"
    with socket.create_connection((web.host, web.port), MOST_SECONDS) as sender:
        sender.sendall(head + b"Expect: 100-continue\r\n\r\n")
        assert sender.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sender.sendall(b"a=b")
        answer = http.client.HTTPResponse(sender)
        answer.begin()  # it skips a second 100
        assert answer.status == 403


def test_a_body_that_is_too_large_is_rejected_before_it_has_come(web: Served) -> None:
    head = b"POST /basket/holds/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"
    with socket.create_connection((web.host, web.port), MOST_SECONDS) as sender:
        sender.sendall(head + b"a")
        answer = http.client.HTTPResponse(sender)
        answer.begin()
        assert answer.status == 413


def test_a_body_read_by_a_thread_has_a_deadline_and_an_end() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        rest = Rest(ours)
        theirs.sendall(b"abc")
        assert rest.read(3) == b"abc"
        rest.deadline = 0
        with pytest.raises(TimeoutError):
            rest.read(1)
        rest = Rest(ours)
        theirs.sendall(b"d")
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(ConnectionResetError):
            rest.read(2)


def test_the_shop_sells_as_usual(web: Served, make_product: MakeProduct) -> None:
    product = make_product(1)
    assert "Thank you" in Shopper(web.url, 1).buy(product.slug).html
