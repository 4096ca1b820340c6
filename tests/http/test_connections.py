"""Connections that are many, slow or gone: they stop nobody, and the server can be stopped."""

from __future__ import annotations

import contextlib
import http.client
import re
import resource
import signal
import socket
import struct
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from inventory.models import Reservation
from shop.load_tests.serving import GUNICORN_CONF
from tests.command_line import database_url
from tests.concurrency import wait_until_somebody_waits_for_a_lock
from tests.conftest import MakeProduct
from tests.http.conftest import APPS, OTHER_DEADLINES, SAME_FOR_BOTH, Served, serve, serving
from tests.http.shopper import Shopper
from tests.shop.programs import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

MANY = 2000  # more than threads, and than gunicorn lets a worker have by default
SECONDS = 30  # for an answer
LONG = {"LOCK_TIMEOUT": "120", "STATEMENT_TIMEOUT": "120"}
HALVES = [
    b"",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: ",
    b"POST /basket/holds/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900\r\n\r\na=",
]


Connect = Callable[..., socket.socket]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """A function that opens a connection, and sends the beginning of a request."""
    with contextlib.ExitStack() as opened:

        def open_one(shop: Served, sent: bytes = b"") -> socket.socket:
            connection = socket.create_connection((shop.host, shop.port), timeout=SECONDS)
            opened.enter_context(connection)
            connection.sendall(sent)
            return connection

        yield open_one


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
    app: str, many_files: None, make_product: MakeProduct, connect: Connect
) -> None:
    product = make_product(1)
    with serving(app, OTHER_DEADLINES, SECONDS_TO_SEND="600") as shop:
        for number in range(MANY):
            connect(shop, HALVES[number % len(HALVES)])
        for _ in range(10):
            assert status_of(shop) == 200
        assert "Thank you" in Shopper(shop.url, 1).buy(product.slug).html


def test_more_connections_than_allowed_are_told_so(django_db_setup: None, connect: Connect) -> None:
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


class Log:
    """The lines that a served shop has written about itself."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.open = file.open("wb")

    def problems(self) -> list[str]:
        return re.findall(r"(?m)^.*(?:WARNING|ERROR|CRITICAL|Traceback|Error).*$", self.text())

    def text(self) -> str:
        return self.file.read_text(errors="replace")


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    kept = Log(tmp_path / "log")
    yield kept
    kept.open.close()


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
    two_threads: Served, media: Path, connect: Connect
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


# Clients who leave


def leave(connection: socket.socket, by_reset: bool) -> None:
    if by_reset:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.mark.parametrize("app", APPS)
def test_nothing_is_logged_of_clients_who_leave(
    app: str, log: Log, media: Path, make_product: MakeProduct, connect: Connect
) -> None:
    slug = make_product(5).slug
    begun = [
        *HALVES,
        get("/"),
        get(f"/products/{slug}/"),
        get("/media/large.bin"),
        b"POST /basket/holds/ HTTP/1.1\r\nHost: localhost\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n5\r\na",
    ]
    if app == "shop.asgi":  # gunicorn's threads log each HEAD
        begun.append(b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    with serving(app, GUNICORN_CONF, log.open, WEB_CONCURRENCY="1", MEDIA_ROOT=str(media)) as shop:
        for by_reset in (False, True):
            for sent in begun:
                leave(connect(shop, sent), by_reset)
                with connect(shop, sent) as connection:
                    connection.settimeout(0.3)
                    with contextlib.suppress(TimeoutError):
                        connection.recv(100)
                    leave(connection, by_reset)
        wait_until(lambda: established(shop) == 0, "the connections are closed")
        assert status_of(shop) == 200
    assert not [line for line in log.problems() if "Length Required" not in line]


def test_a_request_is_not_handled_whose_client_has_left_before_its_turn(
    log: Log, tmp_path: Path, connect: Connect
) -> None:
    """Else those who gave up, and ask again, would make the queue longer and longer."""
    requests = tmp_path / "requests"
    variables = {
        **LONG,
        "WEB_CONCURRENCY": "1",
        "WEB_THREADS": "1",
        "GUNICORN_CMD_ARGS": f"--access-logfile={requests}",
    }
    with serving("shop.asgi", GUNICORN_CONF, log.open, **variables) as shop:
        with table_locked():
            waiting = connect(shop, get("/orders/waiting/"))
            wait_until_somebody_waits_for_a_lock()
            for _ in range(5):
                connect(shop, get("/orders/left/contact/")).close()
            seen = '"GET /orders/[…]/contact/ HTTP/1.1" 499'
            wait_until(lambda: requests.read_text().count(seen) == 5, "all are seen to have left")
        assert http_status(waiting) == 404
        assert status_of(shop) == 200
    assert "Not Found: /orders/[…]/contact/" not in log.text()
    assert "Not Found: /orders/[…]/" in log.text()


# A pool of threads that is full

# A session's key is long, or Django doesn't look for it.
STAFF = b"GET /admin/ HTTP/1.1\r\nHost: localhost\r\nCookie: sessionid=%s\r\n\r\n" % (32 * b"a")


@contextlib.contextmanager
def table_locked(name: str = "shop_order") -> Iterator[None]:
    """While nobody can read a table: each request for a page that needs it keeps a thread."""
    with psycopg.connect(database_url().replace("postgres:", "postgresql:")) as somebody:
        somebody.execute(f"LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE")
        yield
        somebody.rollback()


def test_a_full_pool_of_threads_does_not_stop_the_lane(
    make_product: MakeProduct, connect: Connect
) -> None:
    product = make_product(5)
    with serving("shop.asgi", **LONG, WEB_CONCURRENCY="1", WEB_THREADS="2") as shop:
        shopper = Shopper(shop.url, 1)
        form = shopper.get(f"/products/{product.slug}/").form("/basket/holds/")
        with ThreadPoolExecutor(1) as buyers:
            with table_locked("django_session"):
                waiting = [connect(shop, STAFF) for _ in range(10)]
                wait_until_somebody_waits_for_a_lock(number=2)  # all threads
                assert Shopper(shop.url, 2).get(f"/products/{product.slug}/").status == 200
                bought = buyers.submit(shopper.send, form, quantity="2")
                wait_until(Reservation.objects.exists, "the lane has reserved")
            assert bought.result().status == 200  # the basket, which is Django's
        for each in waiting:  # they have waited, and are answered
            assert http_status(each) == 302
            each.close()


def http_status(connection: socket.socket) -> int:
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    answer.read()
    return answer.status


# Stopping


@pytest.mark.parametrize("app", APPS)
def test_a_stopped_server_finishes_requests_and_waits_for_nobody_else(
    app: str, log: Log, connect: Connect
) -> None:
    variables = {**LONG, "SECONDS_TO_SEND": "600"}
    with serving(app, OTHER_DEADLINES, log.open, **variables) as shop:
        wait_until_all_answer(shop)  # one that still starts would not hear the signal
        for _ in range(4):
            connect(shop)
        assert http_status(connect(shop, get("/healthz"))) == 200  # and it is kept open
        with table_locked():
            waiting = connect(shop, get("/orders/abc/"))
            gone = connect(shop, get("/orders/abc/"))
            wait_until_somebody_waits_for_a_lock(number=2)
            gone.close()
            shop.web.send_signal(signal.SIGTERM)
            time.sleep(1)
        assert http_status(waiting) == 404
        assert shop.web.wait(SECONDS) == 0
    assert log.text().count("Worker exiting") == 2  # by themselves: they were not killed
    assert [line for line in log.problems() if "Not Found" not in line] == []


def wait_until_all_answer(shop: Served) -> None:
    have_answered: set[str] = set()

    def ask() -> bool:
        with urllib.request.urlopen(f"{shop.url}/healthz", timeout=SECONDS) as answer:
            have_answered.add(answer.headers["X-Process"])
        return len(have_answered) == len(shop.web_workers())

    wait_until(ask, "all processes have answered")


@pytest.mark.parametrize("app", SAME_FOR_BOTH)
def test_a_killed_worker_is_replaced(app: str, connect: Connect) -> None:
    with serving(app, **LONG) as shop, table_locked():
        waiting = [connect(shop, get("/orders/abc/")) for _ in range(4)]
        wait_until_somebody_waits_for_a_lock(number=4)
        for worker in shop.web_workers():
            worker.kill()
        for each in waiting:
            with contextlib.suppress(ConnectionResetError):
                assert each.recv(100) == b""
        assert status_of(shop) == 200
