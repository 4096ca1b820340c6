"""Errors that the user can mend end in words; mistakes of ours keep their traceback."""

from __future__ import annotations

import pytest
from django.db import NotSupportedError, OperationalError, connection, transaction
from django.db.utils import DataError, ProgrammingError

from shop.deployment.embedded_postgres import EmbeddedPostgresError
from shop.deployment.startup_errors import explained


def test_a_server_that_is_too_old() -> None:
    with pytest.raises(SystemExit) as raised, explained():
        raise NotSupportedError("PostgreSQL 14 or later is required (found 13.4).")
    assert str(raised.value.code).startswith("PostgreSQL 14 or later is required (found 13.4).")


def test_a_private_server_that_cannot_start() -> None:
    with pytest.raises(SystemExit) as raised, explained():
        raise OperationalError("no room") from EmbeddedPostgresError("no room")
    assert raised.value.code == "no room"


@pytest.mark.django_db
def test_a_table_that_is_missing() -> None:
    with pytest.raises(SystemExit, match=r"Run: python manage\.py migrate"), explained():
        execute("SELECT * FROM no_such_table")


@pytest.mark.django_db
def test_a_statement_on_a_missing_table_is_not_shown() -> None:
    """PostgreSQL quotes the line of the statement, with the values in it."""
    with pytest.raises(SystemExit) as raised, explained():
        execute("SELECT * FROM no_such_table WHERE name = 'Ada Lovelace'")
    assert "no_such_table" in str(raised.value.code)
    assert "Ada" not in str(raised.value.code)


def test_a_password_is_not_shown() -> None:
    """An "@" in it that isn't percent-encoded makes its end part of the host."""
    with pytest.raises(SystemExit) as raised, explained():
        raise OperationalError('could not translate host name "word@db.example.org"')
    assert "word@" not in str(raised.value.code)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("statement", "error"),
    [("SELECT no_such_column", ProgrammingError), ("SELECT 1 / 0", DataError)],
)
def test_a_mistake_of_ours(statement: str, error: type[Exception]) -> None:
    with pytest.raises(error), explained():
        execute(statement)


def execute(statement: str) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)
