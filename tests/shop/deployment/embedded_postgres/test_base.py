"""The backend: a process that connects has the server running, whatever connects, and how."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from shop.deployment.embedded_postgres import PORT, EmbeddedPostgres
from tests.shop.programs import clean_up, copy_checkout, manage

pytestmark = pytest.mark.slow

# Sixteen threads without a connection, let go at one instant.
THREADS_CONNECT = """
import threading
from concurrent.futures import ThreadPoolExecutor
import psutil
from django.db import connection

together = threading.Barrier(16)

def connect(number):
    together.wait()
    connection.ensure_connection()
    answers = connection.is_usable()
    connection.close()
    return answers

with ThreadPoolExecutor(16) as threads:
    print(all(threads.map(connect, range(16))))
print(sum(file.path.endswith("/in-use") for file in psutil.Process().open_files()))
"""
A_POOL = """
from django.db import connection
connection.settings_dict.update(CONN_MAX_AGE=0, OPTIONS={"pool": {"min_size": 1, "max_size": 2}})
print(connection.is_usable() if connection.ensure_connection() is None else None)
connection.close()
connection.close_pool()
"""
PARAMETERS_OF_OTHERS = """
import psycopg
from procrastinate.contrib.django.utils import connector_params
psycopg.connect(**connector_params()).close()
print(True)
"""


@pytest.fixture
def checkout() -> Iterator[Path]:
    """One whose server doesn't run, and has no files yet."""
    with tempfile.TemporaryDirectory(prefix="shop-test-") as directory:
        Path(directory).chmod(0o755)
        place = copy_checkout(Path(directory).resolve() / "checkout")
        yield place
        clean_up(place / ".postgres")


def test_threads_that_connect_at_once_take_its_lock_once(checkout: Path) -> None:
    run = manage("shell", "--no-imports", "-c", THREADS_CONNECT, checkout=checkout)
    assert (run.stdout, run.stderr) == ("True\n1\n", "")


@pytest.mark.parametrize("program", [A_POOL, PARAMETERS_OF_OTHERS], ids=["pool", "parameters"])
def test_what_connects_by_itself_finds_it_running(checkout: Path, program: str) -> None:
    run = manage("shell", "--no-imports", "-c", program, checkout=checkout)
    assert (run.stdout, run.stderr) == ("True\n", "")


def test_the_shell_of_the_database_finds_it_running(checkout: Path) -> None:
    """The client's program isn't everywhere: another stands in its place, and connects."""
    programs = checkout.parent / "programs"
    programs.mkdir()
    psql = programs / "psql"
    socket = EmbeddedPostgres(checkout / ".postgres").socket_dir / f".s.PGSQL.{PORT}"
    psql.write_text(f'#!/bin/sh\ntest -S "{socket}" && echo "connected to $*"\n')
    psql.chmod(0o755)
    run = manage("dbshell", checkout=checkout, env={"PATH": f"{programs}:{os.environ['PATH']}"})
    assert (run.stderr, run.returncode) == ("", 0)
    assert run.stdout.startswith("connected to -U postgres ")


def test_a_server_that_cannot_start_is_a_database_that_is_away(checkout: Path) -> None:
    """So it is for pages, which answer 503, and for commands, which repeat the server's words."""
    (checkout / ".postgres").write_text("not a directory")
    script = (
        "from django.test import Client\n"
        "print(Client(headers={'host': 'localhost'}).get('/').status_code)"
    )
    run = manage("shell", "--no-imports", "-c", script, checkout=checkout)
    assert run.stdout == "503\n"
    assert "The private PostgreSQL can't use" in run.stderr
    run = manage("migrate", checkout=checkout)
    assert run.stderr.startswith(f"The private PostgreSQL can't use {checkout / '.postgres'}")
    assert "Is DATABASE_URL right" not in run.stderr
    assert run.returncode == 1
