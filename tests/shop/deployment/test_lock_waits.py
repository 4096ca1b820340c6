"""The texts about sessions that are in one's way."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from django.db import connection

from shop.deployment.database import url_of
from shop.deployment.lock_waits import find_lock_wait, shorten_query
from tests.concurrency import wait_until_somebody_waits_for_a_lock
from tests.conftest import MakeProduct


@pytest.mark.parametrize(
    ("sql", "shortened"),
    [
        (
            "SELECT * FROM a WHERE b = 'O''Hara' OR c = 1.5",
            "SELECT * FROM a WHERE b = … OR c = …",
        ),
        (r"SELECT E'it\'s', $x$ a 'b' $x$, t1.c2", "SELECT …, …, t1.c2"),
        ("SELECT 'cut off", "SELECT …"),
        ("SELECT DATE'2026-01-02', 1e5, -7", "SELECT DATE…, …, …"),
        # A quote in a name or in a comment begins no literal.
        ("SELECT \"Ada's\", 'Lovelace'", 'SELECT "Ada\'s", …'),
        ("SELECT 1 -- isn't Ada\n, 'Lovelace'", "SELECT … , …"),
        ("/* Ada's */ SELECT 'Lovelace'", "SELECT …"),
        ("SELECT /* a /* b */ it's Ada */ 'Lovelace'", "SELECT"),
        ("SELECT a /* Ada, cut off", "SELECT a"),
        # Names of columns that somebody calls by an address, or by a token.
        ('SELECT a AS "ada@example.org"', 'SELECT a AS "[e-mail]"'),
        (f'SELECT a AS "{"4f" * 20}"', 'SELECT a AS "[token]"'),
        ("SELECT\n  a", "SELECT a"),
        ("SELECT " + "a, " * 100, ("SELECT " + "a, " * 100)[:99] + "…"),
    ],
)
def test_a_query_is_shortened_without_values(sql: str, shortened: str) -> None:
    assert shorten_query(sql) == shortened


@pytest.mark.django_db(transaction=True)
def test_a_session_in_ones_way_shows_nobodys_data(make_product: MakeProduct) -> None:
    """The other session is of a program that puts addresses into its name and its SQL."""
    product = make_product(3)
    url, name = url_of(connection.settings_dict), "import of ada@example.org"
    lock = f"SELECT 'Ada Lovelace' FROM inventory_product WHERE id = {product.pk} FOR UPDATE"
    with psycopg.connect(url, application_name=name) as other, psycopg.connect(url) as waiting:
        other.execute(lock.encode())
        with ThreadPoolExecutor() as threads:
            changed = threads.submit(waiting.execute, "UPDATE inventory_product SET version = 1")
            wait_until_somebody_waits_for_a_lock()
            with psycopg.connect(url, autocommit=True) as observer:
                wait = find_lock_wait(observer, waiting.info.backend_pid)
            other.rollback()
            changed.result()
        waiting.rollback()
    assert "import of [e-mail]" in str(wait)
    assert "SELECT … FROM inventory_product WHERE id = … FOR UPDATE" in str(wait)
    assert "Ada" not in str(wait)
    assert "ada@" not in str(wait)
