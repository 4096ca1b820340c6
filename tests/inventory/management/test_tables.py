"""Commands on a database without tables: that of a fresh checkout, and that of a real server."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from django.core.management import CommandError
from django.db import connection

from inventory.management import tables
from shop.deployment.embedded_postgres import DATABASE, PORT, USER, EmbeddedPostgres
from tests.shop.programs import PACKAGES, clean_up, copy_checkout

pytestmark = pytest.mark.slow

SALE = ["flash_sale", "--strategy", "mutex", "--payment-ms", "0"]
SHORT = ["--shape", "hot", "--rounds", "1", "--seconds", "0.1", "--buyers", "2", "--row", "mutex"]
COMMANDS = [SALE, ["benchmark", *SHORT], ["check_stock"], ["demo", "--password"]]
WAIT_FOR_A_LOCK = """
    SELECT query FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'
"""
NOTICE = "The database has no tables yet. They are made now, as by manage.py migrate."


@pytest.fixture(scope="module")
def checkout() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="shop-test-") as directory:
        Path(directory).chmod(0o755)
        place = copy_checkout(Path(directory).resolve() / "checkout")
        yield place
        clean_up(place / ".postgres")


@pytest.fixture
def server(checkout: Path) -> EmbeddedPostgres:
    """The checkout's server, with a database without tables."""
    server = EmbeddedPostgres(checkout / ".postgres")
    server.use()
    with psycopg.connect(url(server), autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return server


def url(server: EmbeddedPostgres) -> str:
    return f"postgresql:///{DATABASE}?host={server.socket_dir}&port={PORT}&user={USER}"


def start(checkout: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "manage.py", *arguments],
        cwd=checkout,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": PACKAGES, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.longest
@pytest.mark.parametrize(
    "command",
    [
        pytest.param(command, id=command[0], marks=[] if number > 1 else pytest.mark.thorough)
        for number, command in enumerate(COMMANDS)
    ],
)
def test_a_fresh_checkout_needs_no_migrate(
    checkout: Path, server: EmbeddedPostgres, command: list[str]
) -> None:
    first = start(checkout, *command)
    _, errors = first.communicate(timeout=120)
    assert (first.returncode, errors.strip()) == (0, NOTICE)
    second = start(checkout, *command)
    _, errors = second.communicate(timeout=120)
    assert (second.returncode, errors) == (0, "")


def test_two_programs_that_start_at_once_do_not_disturb_each_other(
    checkout: Path, server: EmbeddedPostgres
) -> None:
    both = [start(checkout, "check_stock") for _ in range(2)]
    for each in both:
        _, errors = each.communicate(timeout=120)
        assert each.returncode == 0, errors


@pytest.mark.django_db(transaction=True)
def test_an_index_is_made_concurrently_while_others_wait_for_the_tables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The index waits for all statements that are older: none may wait for us meanwhile."""
    migrations: list[str] = []

    def wait_for_us() -> None:
        tables.migrate()
        connection.close()

    def make_index(command: str, **options: object) -> None:
        migrations.append(command)
        if len(migrations) == 1:
            other = stack.enter_context(ThreadPoolExecutor(1)).submit(wait_for_us)
            time.sleep(0.5)
            assert not other.done()
            with connection.cursor() as cursor:
                cursor.execute(WAIT_FOR_A_LOCK)
                assert cursor.fetchall() == []
                cursor.execute("CREATE INDEX CONCURRENTLY later ON inventory_product (name)")
                cursor.execute("DROP INDEX later")

    monkeypatch.setattr(tables, "call_command", make_index)
    with ExitStack() as stack:
        tables.migrate()
    assert migrations == ["migrate", "migrate"]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_on_a_server_of_ones_own_it_asks_for_migrate(
    checkout: Path, server: EmbeddedPostgres, command: list[str]
) -> None:
    process = start(checkout, *command, DATABASE_URL=url(server), COLUMNS="200")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    message = "The database has no tables yet. Run this first: python manage.py migrate"
    assert errors.strip() == f"CommandError: {message}"
    with psycopg.connect(url(server)) as connection:
        [number] = connection.execute(  # type: ignore[misc]
            "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        ).fetchone()
    assert number == 0


def test_a_usage_error_comes_before_anything_is_made(
    checkout: Path, server: EmbeddedPostgres
) -> None:
    process = start(checkout, "flash_sale", "--buyers", "0")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    assert NOTICE not in errors


@pytest.mark.django_db
def test_nothing_is_said_if_nothing_is_missing() -> None:
    def fail(line: str) -> None:
        raise CommandError(line)

    tables.ensure(fail)
    tables.ensure(fail, "shop")
