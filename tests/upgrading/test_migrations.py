"""``migrate`` on an empty database, and on one that a shop has worked with.

``shop-before.sql.gz`` is such a database: a shop of the demo's, after some days of business. Its
buyers have paid, lost a hold and got money back, and its staff received, shipped and refunded.
"""

from __future__ import annotations

import ast
import gzip
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connection

from shop.admin import groups
from shop.deployment.database import url_of

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SECONDS = 240
Rows = dict[str, dict[str, dict[str, Any]]]  # by table and primary key


class Database:
    """A database of its own on the tests' server."""

    def __init__(self, name: str) -> None:
        self.url = url_of({**connection.settings_dict, "NAME": name})

    def execute(self, sql: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as session:
            session.execute(sql.encode())

    def values(self, sql: str) -> list[Any]:
        with psycopg.connect(self.url) as session:
            return [row[0] for row in session.execute(sql.encode())]

    def rows(self) -> Rows:
        """Every row of every table."""
        return {table: self._rows_of(table) for table in self.values(TABLES)}

    def _rows_of(self, table: str) -> dict[str, dict[str, Any]]:
        rows = self.values(f'SELECT to_jsonb(row) FROM "{table}" AS row')
        (key,) = self.values(PRIMARY_KEY.format(table=table))
        return {str(row[key]): row for row in rows}

    def run(self, *command: str, settings: str = "shop.settings") -> str:
        """Run Python on this database; return what it printed. It must succeed."""
        run = subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": self.url, "DJANGO_SETTINGS_MODULE": settings},
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert run.returncode == 0, run.stdout + run.stderr
        return run.stdout


TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
PRIMARY_KEY = """
    SELECT attname FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)
    WHERE indisprimary AND indrelid = '"{table}"'::regclass
"""


@pytest.fixture(scope="module")
def make_database() -> Iterator[Callable[[str], Database]]:
    connection.get_connection_params()  # the checkout's own server runs from here on
    server = url_of({**connection.settings_dict, "NAME": "postgres"})
    names: set[str] = set()
    with psycopg.connect(server, autocommit=True) as session:

        def make(suffix: str) -> Database:
            name = f"migrations_{os.getpid()}_{suffix}"
            session.execute(f'DROP DATABASE IF EXISTS "{name}"'.encode())
            session.execute(f'CREATE DATABASE "{name}"'.encode())
            names.add(name)
            return Database(name)

        yield make
        for name in names:
            session.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


# An empty database


@pytest.mark.slow
@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([[]], id="at once"),
        pytest.param([["auth"], ["shop", "0005"], []], id="in steps", marks=pytest.mark.thorough),
    ],
)
def test_a_model_and_permissions_of_tomorrow(
    steps: list[list[str]], make_database: Callable[[str], Database]
) -> None:
    """The groups get all permissions listed for them that exist; one of them never does."""
    database = make_database("empty")
    for step in steps:
        database.run(
            *("manage.py", "migrate", "--verbosity", "0", *step),
            settings="tests.upgrading.later_app.settings",
        )
    given = set(
        database.values("""
        SELECT content_type.app_label || '.' || permission.codename
        FROM auth_permission AS permission
        JOIN django_content_type AS content_type ON content_type.id = permission.content_type_id
        JOIN auth_group_permissions AS given ON given.permission_id = permission.id
        JOIN auth_group ON auth_group.id = given.group_id WHERE auth_group.name = 'merchant'
    """)
    )
    assert given == {*groups.GROUPS["merchant"], "later_app.view_gadget"}


# Yesterday's database


@pytest.fixture(scope="module")
def before_and_after(
    make_database: Callable[[str], Database],
) -> tuple[Database, Rows, Rows]:
    database = make_database("before")
    database.execute(gzip.decompress((HERE / "shop-before.sql.gz").read_bytes()).decode())
    database.execute(AS_STAFF_CHANGED_THE_GROUPS)
    before = database.rows()
    database.run("manage.py", "migrate", "--verbosity", "0")
    return database, before, database.rows()


AS_STAFF_CHANGED_THE_GROUPS = """
    DELETE FROM auth_group_permissions USING auth_permission AS permission
    WHERE permission.id = permission_id AND permission.codename = 'add_refund';
    DELETE FROM auth_user_groups USING auth_group AS staff
    WHERE staff.id = group_id AND staff.name = 'auditor';
    DELETE FROM auth_group_permissions USING auth_group AS staff
    WHERE staff.id = group_id AND staff.name = 'auditor';
    DELETE FROM auth_group WHERE name = 'auditor';
"""


@pytest.mark.slow
class TestYesterdaysDatabase:
    def test_it_has_a_row_of_each_kind(self, before_and_after: tuple[Database, Rows, Rows]) -> None:
        _, before, _ = before_and_after
        empty = {table for table, rows in before.items() if not rows}
        assert empty == NEVER_FILLED
        states = {row["state"] for row in before["shop_order"].values()}
        assert states == {"PENDING", "PAID", "SHIPPED", "CANCELLED", "REFUNDED"}
        statuses = {row["status"] for row in before["inventory_reservation"].values()}
        assert statuses == {"HELD", "SOLD", "RELEASED", "EXPIRED"}

    def test_every_row_is_as_before(self, before_and_after: tuple[Database, Rows, Rows]) -> None:
        _, before, after = before_and_after
        for table, rows in before.items():
            assert set(rows) - set(after[table]) == set(), table
            for key, row in rows.items():
                assert migrated(table, row).items() <= after[table][key].items(), table

    def test_no_row_is_new_where_shops_keep_theirs(
        self, before_and_after: tuple[Database, Rows, Rows]
    ) -> None:
        _, before, after = before_and_after
        grown = {table for table in before if len(after[table]) > len(before[table])}
        assert grown <= {
            "django_migrations",
            "django_content_type",
            "auth_permission",
            "auth_group_permissions",
        }

    def test_groups_are_as_staff_left_them(
        self, before_and_after: tuple[Database, Rows, Rows]
    ) -> None:
        """A permission that staff took away isn't given again. A deleted group isn't made again."""
        *_, after = before_and_after
        assert {row["name"] for row in after["auth_group"].values()} == {"merchant", "packers"}
        codenames = {key: row["codename"] for key, row in after["auth_permission"].items()}
        given = {
            codenames[str(row["permission_id"])] for row in after["auth_group_permissions"].values()
        }
        assert "view_flashsale" in given
        assert "add_refund" not in given

    def test_the_law_holds(self, before_and_after: tuple[Database, Rows, Rows]) -> None:
        database, *_ = before_and_after
        database.run("manage.py", "check_stock")

    def test_pages_of_shop_and_admin_open(
        self, before_and_after: tuple[Database, Rows, Rows]
    ) -> None:
        database, *_ = before_and_after
        opened = database.run("-m", "tests.upgrading.open_pages").splitlines()
        assert len(opened) > 50
        assert [line for line in opened if not line.startswith("200 ")] == []


NEVER_FILLED = {  # by the shop
    "axes_accessattemptexpiration",
    "axes_accessfailurelog",
    "axes_accesslog",
    "procrastinate_periodic_defers",
    "procrastinate_workers",
}


def migrated(table: str, row: dict[str, Any]) -> dict[str, Any]:
    """The row with the changes that migrations intend."""
    if table == "django_content_type" and row["model"] in ("flashsale", "flashsaleresult"):
        return {**row, "app_label": "experiments"}
    return row


# Migrations


def test_migrations_call_nothing_that_may_change() -> None:
    """Migrations import nothing of our code but functions that make a default."""
    for file in [*ROOT.glob("inventory/**/migrations/*.py"), *ROOT.glob("shop/migrations/*.py")]:
        imports = {
            name
            for node in ast.walk(ast.parse(file.read_text()))
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        ours = {name for name in imports if name.split(".")[0] in ("inventory", "shop")}
        assert ours <= {"shop.models"}, file
