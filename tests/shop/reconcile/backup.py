"""A backup of the test's database, and the way back to it; and the rows of all tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from django.db import connection
from psycopg import sql

from shop.deployment.database import url_of
from tests.conftest import wait_for_no_disk


class Backup:
    """A copy of the test's database, made at once."""

    def __init__(self) -> None:
        self.database: str = connection.settings_dict["NAME"]
        self.copy = f"{self.database}_backup"[-63:]
        self.drop()
        _run("CREATE DATABASE {} TEMPLATE {}", self.copy, self.database)

    def restore(self) -> None:
        """Put the copy in the place of the database; this can be done once."""
        _run("DROP DATABASE {} WITH (FORCE)", self.database)
        _run("ALTER DATABASE {} RENAME TO {}", self.copy, self.database)
        wait_for_no_disk()

    def drop(self) -> None:
        _run("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.copy)


def _run(statement: str, *names: str) -> None:
    """Run a statement beside the test's database, to which nobody may be connected."""
    connection.close()
    url = url_of({**connection.settings_dict, "NAME": "postgres"})
    with psycopg.connect(url.replace("postgres:", "postgresql:", 1), autocommit=True) as server:
        server.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def all_rows() -> dict[str, Sequence[Any]]:
    """The rows of all tables, as text, by table."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        tables = [name for (name,) in cursor.fetchall()]
        rows = {}
        for table in tables:
            query = sql.SQL("SELECT t::text FROM {} AS t ORDER BY 1").format(sql.Identifier(table))
            cursor.execute(query)
            rows[table] = cursor.fetchall()
    return rows
