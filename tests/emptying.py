"""Brings the test database back to its state after the migrations, in a few milliseconds.

After a test that commits, Django truncates every table, even empty ones, and then makes all content
types and permissions again. That takes longer than most of our tests.
"""

from __future__ import annotations

from django.db import connection, transaction
from psycopg import sql

AS_MIGRATED = "as_migrated"  # the schema with a copy of each table that migrations filled
# Nobody changes these; they are all that Django's own flush puts back.
LEFT_ALONE = {"django_migrations", "django_content_type", "auth_permission"}


def remember_what_migrations_left() -> None:
    """Copy all rows before the first test."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"CREATE SCHEMA {AS_MIGRATED}")
        for table in _tables():
            cursor.execute(_sql("SELECT EXISTS (SELECT FROM public.{})", table))
            if cursor.fetchone() == (True,):
                cursor.execute(
                    _sql(f"CREATE TABLE {AS_MIGRATED}.{{0}} AS TABLE public.{{0}}", table)
                )


def empty_tables() -> None:
    """Bring all tables back to that state, even tables that Django's own flush doesn't know."""
    statements = [_sql("DELETE FROM public.{}", table) for table in _tables()]
    statements += [
        _sql(f"INSERT INTO public.{{0}} TABLE {AS_MIGRATED}.{{0}}", table)
        for table in _tables(AS_MIGRATED)
    ]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql.SQL("; ").join(statements))


def _tables(schema: str = "public") -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = %s::regnamespace",
            [schema],
        )
        return sorted({name for (name,) in cursor.fetchall()} - LEFT_ALONE)


def _sql(text: str, table: str) -> sql.Composed:
    return sql.SQL(text).format(sql.Identifier(table))
