"""Pages from a read replica: which, when, and what happens when it lags or is away."""

from __future__ import annotations

import itertools
import math
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from django.conf import LazySettings
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connection, transaction
from django.test import Client as Browser

from inventory.models import Product, Reservation
from shop.deployment import database, replicas
from shop.deployment.replicas import Router, Watch, reading_from_replica
from shop.load_tests.http_benchmark.client import Answer, Client
from shop.load_tests.serving import ServedShop
from shop.middleware.buyer import CHANGED
from shop.models import Order
from tests.command_line import ROOT, environment
from tests.conftest import MakeProduct
from tests.shop.deployment.replica_server import ReplicaServer, replica

__all__ = ["replica"]  # the fixture

SECONDS = 60
MOST_LAG = 8  # seconds
READ = b"The replica is read."


# The router


@pytest.mark.django_db(transaction=True)
def test_only_a_block_that_says_so_reads_there() -> None:
    router = Router()
    assert router.db_for_read(Product) is None
    with reading_from_replica():
        assert router.db_for_read(Product) == "replica"
        assert router.db_for_read(Order) == "replica"
    assert router.db_for_read(Product) is None


@pytest.mark.django_db(transaction=True)
def test_within_a_transaction_the_primary_is_read() -> None:
    with reading_from_replica(), transaction.atomic():
        assert Router().db_for_read(Product) is None


@pytest.mark.django_db(transaction=True)
def test_rows_to_be_locked_and_all_writes_are_the_primarys(settings: LazySettings) -> None:
    settings.DATABASE_ROUTERS = ["shop.deployment.replicas.Router"]
    with reading_from_replica():
        assert Product.objects.all().db == "replica"
        assert Product.objects.select_for_update().db == "default"
        assert Router().db_for_write(Product) == "default"


@pytest.mark.django_db(transaction=True)
def test_staff_and_sessions_are_never_read_there() -> None:
    from django.contrib.auth.models import User
    from django.contrib.sessions.models import Session

    with reading_from_replica():
        assert Router().db_for_read(User) is None
        assert Router().db_for_read(Session) is None


def test_no_migration_runs_there() -> None:
    assert Router().allow_migrate("replica", "shop") is False
    assert Router().allow_migrate("default", "shop") is None


# How far it is behind


class Servers:
    """Both servers' logs, as numbers that the test sets."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.written = self.replayed = 100
        self.is_replica = True
        self.now = 1000.0
        patch.setattr(replicas, "_ask", self.ask)
        patch.setattr(time, "monotonic", lambda: self.now)

    def ask(self, alias: str, sql: str) -> list[tuple[object, ...]]:
        if alias == "default":
            return [(self.written,)]
        return [(self.is_replica, self.replayed)]


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch, settings: LazySettings) -> Servers:
    settings.REPLICA_URL = "postgres:///replica"
    settings.REPLICA_MOST_LAG = timedelta(seconds=5)
    return Servers(monkeypatch)


def test_nobody_knows_before_the_first_look(servers: Servers) -> None:
    assert not Watch().is_usable()


def test_a_replica_without_news_is_not_behind(servers: Servers) -> None:
    watch = Watch()
    for servers.now in (1000.0, 1060.0):
        watch._look_once()
        assert watch.seconds_behind() == 0


def test_it_is_behind_since_the_last_state_that_it_has(servers: Servers) -> None:
    watch = Watch()
    watch._look_once()
    servers.written, servers.now = 200, 1002.0  # it replays nothing from here on
    watch._look_once()
    assert (watch.seconds_behind(), watch.is_usable()) == (2.0, True)
    servers.now = 1006.0
    watch._look_once()
    assert (watch.seconds_behind(), watch.is_usable()) == (6.0, False)
    servers.replayed, servers.written = 200, 300  # it has come as far as the look at 1006
    servers.now = 1007.0
    watch._look_once()
    assert (watch.seconds_behind(), watch.is_usable()) == (1.0, True)


def test_a_replica_that_has_lost_what_it_had_is_not_read(servers: Servers) -> None:
    """It was killed, and replays its log from an earlier place."""
    watch = Watch()
    watch._look_once()
    servers.replayed, servers.now = 90, 1001.0
    watch._look_once()
    assert not watch.is_usable()
    servers.replayed = 100
    watch._look_once()
    assert watch.is_usable()


def test_without_looks_it_grows_old(servers: Servers) -> None:
    watch = Watch()
    watch._look_once()
    servers.now = 1005.5  # the looks hang, or fail
    assert not watch.is_usable()


def test_a_server_that_is_no_replica_is_not_read(servers: Servers) -> None:
    """It may be the primary itself; or it was promoted, and lives a life of its own."""
    watch = Watch()
    watch._look_once()
    servers.is_replica = False
    watch._look_once()
    assert watch.seconds_behind() == math.inf
    assert watch.reason() == replicas.NO_REPLICA


def test_after_a_failure_it_is_read_only_when_it_has_answered(servers: Servers) -> None:
    watch = Watch()
    watch._look_once()
    watch.note_failure(OperationalError("server closed the connection\nmore"))
    assert not watch.is_usable()
    assert watch.reason() == "server closed the connection"
    watch._look_once()
    assert watch.is_usable()


@pytest.mark.django_db
def test_the_metrics_tell_the_lag(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    from shop.metrics.exposition import expose

    monkeypatch.setattr(replicas, "seconds_behind", lambda: 2.5)
    assert b"\nshop_replica_lag_seconds 2.5\n" in expose()


# One's own change


@pytest.fixture
def with_replica(settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shop with a replica that can't be used."""
    settings.REPLICA_URL = "postgres:///replica"
    settings.REPLICA_MOST_LAG = timedelta(seconds=5)
    monkeypatch.setattr(replicas, "is_usable", lambda: False)


@pytest.mark.django_db(transaction=True)
def test_a_change_is_noted_for_longer_than_the_replica_may_lag(
    with_replica: None, make_product: MakeProduct
) -> None:
    product = make_product()
    browser = Browser()
    browser.get(f"/products/{product.slug}/")
    browser.get("/")
    assert CHANGED not in browser.cookies
    form = {"product": product.slug, "quantity": 1, "key": uuid4()}
    answer = browser.post("/basket/holds/", form)
    assert answer.cookies[CHANGED]["max-age"] > 5 + 1  # the lag, and the age of the lane's pages


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("address", ["/basket/", "/checkout/", "/orders/"])
def test_own_pages_count_as_a_change(
    with_replica: None, make_product: MakeProduct, address: str
) -> None:
    """Looking at an order may settle it."""
    browser = Browser()
    browser.get(f"/products/{make_product().slug}/")
    assert CHANGED in browser.get(address).cookies


@pytest.mark.django_db(transaction=True)
def test_without_a_replica_nothing_is_noted(make_product: MakeProduct) -> None:
    browser = Browser()
    form = {"product": make_product().slug, "quantity": 1, "key": uuid4()}
    assert CHANGED not in browser.post("/basket/holds/", form).cookies


# Settings


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("mysql://db/shop", "REPLICA_URL must name a PostgreSQL database"),
        ("postgres://db/", "REPLICA_URL names no database"),
        ("postgres://shop:50%off@db/shop", "REPLICA_URL can't be read"),
        ("postgres://db:54x/shop", "REPLICA_URL has a port that is no number"),
        ("postgres://one,two/shop", "REPLICA_URL must name one server"),
        ("postgres://shop@primary:5432/shop", "REPLICA_URL names the same server as DATABASE_URL"),
    ],
)
def test_a_wrong_address_is_named(tmp_path: Path, url: str, complaint: str) -> None:
    primary = database.configure("postgres://shop@primary:5432/shop", tmp_path)
    with pytest.raises(ImproperlyConfigured, match=complaint):
        database.with_replica(primary, url)


def test_a_replica_that_is_away_is_called_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the program would end with the question whether DATABASE_URL is right."""

    def ask(alias: str, sql: str) -> list[tuple[object, ...]]:
        if alias == "replica":
            raise OperationalError("connection refused\nmore words")
        return [(1, "shop", False)]

    monkeypatch.setattr(replicas, "_ask", ask)
    assert replicas.find_problem() == "REPLICA_URL's server can't be asked: connection refused"


# With a real one


class Shop:
    """A shop that is served, and reads from the replica."""

    def __init__(self, replica: ReplicaServer, log: Path) -> None:
        variables = {
            "REPLICA_URL": replica.url,
            "REPLICA_MOST_LAG": str(MOST_LAG),
            "WEB_CONCURRENCY": "1",
        }
        self.log = log
        self._log = log.open("wb")
        self.served = ServedShop(variables, log=self._log)
        self.served.start_web()
        self._client = Client(self.served.host, self.served.port)

    def end(self) -> None:
        self._client.close()
        self.served.stop()
        self._log.close()

    def get(self, path: str, cookies: bytes = b"") -> Answer:
        self._client.close()  # the server closes one that is idle for seconds
        answer = self._client.get(path, cookies)
        assert answer.status == 200, answer.head
        return answer

    def post(self, path: str, cookies: bytes, form: dict[str, object]) -> Answer:
        self._client.close()
        return self._client.post(path, cookies, urlencode(form).encode())

    def health(self) -> bytes:
        with urllib.request.urlopen(f"{self.served.url}/healthz", timeout=SECONDS) as answer:
            text: bytes = answer.read()
        return text


@pytest.fixture
def shop(replica: ReplicaServer, tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(replica, tmp_path / "log")
    try:
        yield shop
    finally:
        shop.end()


@pytest.fixture
def restarting() -> Iterator[ExitStack]:
    with ExitStack() as at_the_end:
        yield at_the_end


def wait_until(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def call_it(product: Product, name: str) -> None:
    Product.objects.filter(pk=product.pk).update(name=name)


@pytest.mark.slow
@pytest.mark.longest
@pytest.mark.django_db(transaction=True)
def test_pages_come_from_the_replica_as_long_as_it_keeps_up(
    replica: ReplicaServer, shop: Shop, make_product: MakeProduct, restarting: ExitStack
) -> None:
    product = make_product(5, name="Old name")
    page = f"/products/{product.slug}/"
    wait_until(lambda: READ in shop.health() and b"Old name" in shop.get("/").body)
    visitor = shop.get(page)

    replica.execute("SELECT pg_wal_replay_pause()")
    call_it(product, "New name")
    time.sleep(1.5)  # a page that the fast lane kept from before is gone
    for path, cookies in itertools.product(("/", page, f"{page}stock/"), (b"", visitor.cookies)):
        body = shop.get(path, cookies).body
        assert b"New name" not in body, path
        just_changed = visitor.cookies + b"; changed=1"
        assert b"New name" in shop.get("/", just_changed).body
        assert b"New name" in shop.get(page, just_changed).body

    # A purchase meanwhile is decided, and shown, on the primary.
    token = re.search(rb'name="csrfmiddlewaretoken" value="([^"]+)"', visitor.body)
    assert token
    form = {
        "csrfmiddlewaretoken": token[1].decode(),
        "product": product.slug,
        "quantity": 2,
        "key": uuid4(),
    }
    reserved = shop.post("/basket/holds/", visitor.cookies, form)
    assert reserved.status == 302
    own = visitor.cookies + b"; " + reserved.cookies
    assert CHANGED.encode() in own
    assert b"New name" in shop.get("/basket/", own).body
    assert b"New name" in shop.get("/", own).body
    assert b"Last 3" in shop.get(page, own).body
    assert Reservation.objects.get().quantity == 2

    # When it is behind by more than it may be, the primary answers everybody.
    wait_until(lambda: READ not in shop.health())
    assert b"New name" in shop.get("/").body
    wait_until(lambda: b"The replica isn't read: it is" in shop.log.read_bytes())
    replica.execute("SELECT pg_wal_replay_resume()")
    wait_until(lambda: READ in shop.health())

    # So it does when the replica is away.
    replica.kill()
    restarting.callback(replica.start)
    for _ in range(10):
        shop.get("/")
        shop.get(page)
    wait_until(lambda: READ not in shop.health())
    call_it(product, "Newer name")
    assert b"Newer name" in shop.get("/").body


@pytest.mark.slow
@pytest.mark.longest
@pytest.mark.django_db(transaction=True)
def test_a_copy_is_told_from_another_server(
    replica: ReplicaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {
        alias: _identity(url)
        for alias, url in (("default", database.url_of(connection.settings_dict)),
                           ("replica", replica.url))
    }  # fmt: skip
    monkeypatch.setattr(replicas, "_ask", lambda alias, sql: [answers[alias]])
    assert replicas.find_problem() is None
    answers["replica"] = (answers["replica"][0] + 1, *answers["replica"][1:])
    assert "isn't a copy" in str(replicas.find_problem())
    answers["replica"] = answers["default"]
    assert replicas.find_problem() == replicas.NO_REPLICA


@pytest.mark.slow
@pytest.mark.longest
@pytest.mark.django_db(transaction=True)
def test_a_wrong_server_is_named_by_the_check(replica: ReplicaServer) -> None:
    """The primary, under another name, is a copy of itself, and no replica."""
    ours = database.url_of(connection.settings_dict)
    right = _check({"DATABASE_URL": ours, "REPLICA_URL": replica.url})
    wrong = _check({"DATABASE_URL": ours, "REPLICA_URL": ours.replace("%2F", "%2F%2F", 1)})
    assert (right.stderr, right.returncode) == ("", 0)
    assert wrong.returncode == 1
    assert replicas.NO_REPLICA in " ".join(wrong.stderr.split())


@pytest.mark.slow
@pytest.mark.longest
@pytest.mark.django_db(transaction=True)
def test_a_frozen_replica_keeps_nobody_waiting_for_ever(
    replica: ReplicaServer, shop: Shop, make_product: MakeProduct
) -> None:
    # The last test: it doesn't wake up any more.
    make_product(name="A lamp")
    wait_until(lambda: READ in shop.health() and b"A lamp" in shop.get("/").body)
    replica.freeze()
    assert b"A lamp" in shop.get("/").body  # a connection that is open, to one who never answers
    assert READ not in shop.health()


def _check(variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", "check", "--database", "default"],
        cwd=ROOT,
        env={**environment(), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def _identity(url: str) -> tuple[Any, ...]:
    import psycopg

    with psycopg.connect(url) as own:
        row = own.execute(replicas.IDENTITY.encode()).fetchone()
    assert row
    return tuple(row)
