"""``migrate`` in an open shop: it keeps nobody waiting for long, and says who is in its way."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from io import StringIO
from typing import Any

import pglock
import psycopg
import pytest
from django.apps import AppConfig, apps
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client

from inventory.models import Reservation
from shop.deployment import migration_watch
from shop.deployment.database import url_of
from shop.management.commands import migrate
from tests.concurrency import wait_until_somebody_waits_for_a_lock
from tests.conftest import MakeProduct
from tests.pgbouncer import pgbouncer
from tests.shop.conftest import Reserve
from tests.shop.programs import ROOT, wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

APP = "locking_app"


@pytest.fixture(autouse=True)
def app(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The app with its first migration, and short pauses."""
    monkeypatch.setattr(migrate, "LONGEST_PAUSE", 0.1)
    config = AppConfig.create(f"tests.shop.management.{APP}")
    config.models, config.apps = {}, apps
    monkeypatch.setitem(apps.app_configs, APP, config)
    run("0001")
    yield
    run("zero")


def run(to: str, printed: StringIO | None = None, **options: Any) -> str:
    """Migrate the app up to there; return what was printed."""
    printed = printed or StringIO()
    call_command("migrate", APP, to, stdout=printed, **options)
    return printed.getvalue()


@contextmanager
def in_background(call: Callable[[], str]) -> Iterator[Future[str]]:
    def and_close() -> str:
        try:
            return call()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(and_close)


@contextmanager
def session(name: str = "") -> Iterator[psycopg.Connection[Any]]:
    url = url_of(connection.settings_dict)
    with psycopg.connect(url, application_name=name) as other:
        yield other


@contextmanager
def reader_of(table: str) -> Iterator[psycopg.Connection[Any]]:
    """A session that has read the table in a transaction which it doesn't end."""
    with session("report") as reader:
        reader.execute(f"SELECT FROM {table} WHERE 'ada@example.org' = ''".encode())
        yield reader


def columns(table: str) -> set[str]:
    with connection.cursor() as cursor:
        description = connection.introspection.get_table_description(cursor, table)
        return {column.name for column in description}


def applied() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM django_migrations WHERE app = %s", [APP])
        return {name for (name,) in cursor.fetchall()}


# While somebody keeps the table


def test_a_buyer_gets_through_while_a_migration_waits_for_a_reader(
    make_product: MakeProduct, reserve: Reserve, client: Client
) -> None:
    """The buyer waits behind the migration, which waits for the reader: until it gives up."""
    product = make_product(1)
    with (
        reader_of("inventory_product") as reader,
        connection.cursor() as cursor,
        in_background(lambda: run("0002", lock_timeout=0.5, lock_tries=1000)) as migrating,
    ):
        wait_until_somebody_waits_for_a_lock()
        cursor.execute("SET lock_timeout = '5s'")  # as in a web process
        status = reserve(product).status_code
        cursor.execute("RESET lock_timeout")
        assert applied() == {"0001_table"}
        reader.commit()
        migrating.result(timeout=60)
    assert status == 302
    assert Reservation.objects.count() == 1
    assert "later" in columns("inventory_product")


def test_it_gives_up_with_the_names_of_all_that_matters() -> None:
    with reader_of("inventory_product") as reader:
        pid = reader.info.backend_pid
        with pytest.raises(CommandError) as error:
            run("0002", lock_timeout=0.5, lock_tries=2)
    message = str(error.value)
    assert error.value.returncode == 1
    assert message.startswith(
        "locking_app.0002_column_of_product waited for 0.5 s, 2 times, "
        "and could not get the table inventory_product\n"
    )
    assert re.search(rf"process {pid} \(report, user \w+", message)
    assert re.search(r"since \d\d:\d\d:\d\d \w+ \(\d+ s\), idle in transaction: SELECT", message)
    assert "ada@" not in message
    assert "nothing is half done" in message
    assert "half_done" not in columns("locking_row")
    assert applied() == {"0001_table"}


def test_a_lost_deadlock_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one has read the product, and then wants what the migration has locked."""
    with reader_of("inventory_product") as other:
        other.execute("SET deadlock_timeout = '60s'")  # so that the migration is the victim

        def migrate_with_little_patience() -> str:
            with connection.cursor() as cursor:
                cursor.execute("SET deadlock_timeout = '100ms'")
            return run("0002", lock_timeout=60)

        with in_background(migrate_with_little_patience) as migrating:
            wait_until_somebody_waits_for_a_lock()
            other.execute("SELECT FROM locking_row")
            other.commit()
            assert "tried again" in migrating.result(timeout=60)
    assert "later" in columns("inventory_product")


# A migration that isn't atomic


def test_what_is_done_concurrently_waits_as_long_as_it_must(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Broken off it would leave an invalid index. A line says what it waits for."""
    monkeypatch.setattr(migration_watch, "SECONDS_BETWEEN_LINES", 0.5)
    monkeypatch.setattr(migrate, "SECONDS_BETWEEN_LINES", 0.5)
    run("0002")
    with session() as other:
        pid = other.info.backend_pid
        other.execute("UPDATE locking_row SET name = name WHERE id = 2")
        printed = StringIO()
        waits = re.compile(rf"(?s)locking_app.0003_index: \d+ s. It waits for .+ process {pid} ")
        with in_background(lambda: run("0003", printed, lock_timeout=0.2)) as migrating:
            wait_until(lambda: waits.search(printed.getvalue()), "it says for whom it waits")
            assert not migrating.done()
            other.commit()
            migrating.result(timeout=60)
    assert re.search(r"These took long: locking_app.0003_index \(\d+ s\)\.", printed.getvalue())


def test_it_drops_what_an_index_left_that_was_broken_off() -> None:
    run("0002")
    with session() as other:
        other.autocommit = True
        other.execute("INSERT INTO locking_row VALUES (2, 'ada@example.org')")
        with pytest.raises(psycopg.errors.UniqueViolation):
            other.execute("CREATE UNIQUE INDEX CONCURRENTLY locking_row_name ON locking_row (name)")
    run("0003")
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT indisvalid, indisunique FROM pg_index"
            " WHERE indexrelid = 'locking_row_name'::regclass"
        )
        assert cursor.fetchall() == [(True, False)]


def test_it_says_which_migration_is_half_done() -> None:
    run("0002")
    with session() as other:
        other.execute("SELECT FROM locking_row WHERE id = 1 FOR UPDATE")
        message = r"(?s)waited for 0.5 s, once, .+0003_index isn't atomic, and was begun"
        with pytest.raises(CommandError, match=message):
            run("0003", lock_timeout=0.5)  # the index waits for nobody, the row for the other
    assert "0003_index" not in applied()
    run("0003")


# Two at a time


def test_the_second_one_waits_for_the_first() -> None:
    key = pglock.advisory(migrate.ADVISORY_LOCK).int_lock_id
    with session() as first:
        first.execute("SELECT pg_advisory_lock(%s)", [key])
        printed = StringIO()
        with in_background(lambda: run("0002", printed)) as migrating:
            words = "Another migrate is at work"
            wait_until(lambda: words in printed.getvalue(), "it says that it waits")
            assert not migrating.done()
            first.execute("SELECT pg_advisory_unlock(%s)", [key])
            migrating.result(timeout=60)


# The session


def test_the_session_is_as_before() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '7s'")
        run("0002")
        cursor.execute("SHOW lock_timeout")
        assert cursor.fetchone() == ("7s",)
        cursor.execute("RESET lock_timeout")


def test_it_warns_of_a_pooler_and_goes_on() -> None:
    with pgbouncer() as url:
        migrating = subprocess.run(
            [sys.executable, "manage.py", "migrate", "--lock-timeout", "1"],
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": url},
            capture_output=True,
            text=True,
        )
    assert migrating.returncode == 0, migrating.stderr
    assert "The connection goes through a pooler, whose timeouts count." in migrating.stderr
