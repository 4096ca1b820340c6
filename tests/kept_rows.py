"""Rows put back before each schedule of a race, which is quicker than to make them anew."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import connection, transaction


def keep_rows(tables: Sequence[str]) -> None:
    """Remember all rows of these tables as they are now, while this connection lasts."""
    with connection.cursor() as cursor:
        for table in tables:
            cursor.execute(f"DROP TABLE IF EXISTS kept_{table}")
            cursor.execute(f"CREATE TEMPORARY TABLE kept_{table} AS TABLE {table}")


def put_rows_back(tables: Sequence[str], *, and_then: Sequence[str] = ()) -> None:
    """Let these tables have the rows that were kept, and no others; all at once, with more SQL.

    Each table refers only to those after it.
    """
    emptied = [f"DELETE FROM {table}" for table in tables]
    filled = [f"INSERT INTO {table} TABLE kept_{table}" for table in reversed(tables)]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("; ".join([*emptied, *filled, *and_then]))
