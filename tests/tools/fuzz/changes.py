"""The rows that a request has changed, as the database itself notes them.

A trigger on each table writes every changed row into a table of its own, which the drill reads and
empties after each request. Requests come one after the other, so none is mixed up with another.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db import connection

NOTE = "fuzz_change"
MAKE = f"""
    CREATE TABLE {NOTE} (
        id bigserial, relation text, operation text, before jsonb, after jsonb
    );
    CREATE FUNCTION {NOTE}() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'INSERT' THEN
            INSERT INTO {NOTE} (relation, operation, after)
            VALUES (TG_TABLE_NAME, TG_OP, to_jsonb(NEW));
        ELSIF TG_OP = 'DELETE' THEN
            INSERT INTO {NOTE} (relation, operation, before)
            VALUES (TG_TABLE_NAME, TG_OP, to_jsonb(OLD));
        ELSIF OLD IS DISTINCT FROM NEW THEN
            INSERT INTO {NOTE} (relation, operation, before, after)
            VALUES (TG_TABLE_NAME, TG_OP, to_jsonb(OLD), to_jsonb(NEW));
        END IF;
        RETURN NULL;
    END $$;
"""
TABLES = """
    SELECT quote_ident(relname) FROM pg_class
    WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r' AND relname <> %s
"""
TAKE = f"DELETE FROM {NOTE} RETURNING id, relation, operation, before::text, after::text"


@dataclass(frozen=True)
class Change:
    """A changed row."""

    table: str
    operation: str
    """INSERT, UPDATE or DELETE."""
    before: dict[str, Any]
    after: dict[str, Any]

    @property
    def row(self) -> dict[str, Any]:
        """The row as it is now; as it was, if it is gone."""
        return self.after or self.before

    @property
    def columns(self) -> set[str]:
        """The columns with another value than before."""
        names = {*self.before, *self.after}
        return {name for name in names if self.before.get(name) != self.after.get(name)}

    def __str__(self) -> str:
        if self.operation == "UPDATE":
            values = ", ".join(
                f"{name}: {self.before[name]!r} → {self.after[name]!r}"
                for name in sorted(self.columns)
            )
            return f"{self.operation} {self.table} {self.row.get('id')}: {values}"
        return f"{self.operation} {self.table} {self.row}"


@contextlib.contextmanager
def noted() -> Iterator[None]:
    """Have the database note all changes, in a block."""
    with connection.cursor() as cursor:
        cursor.execute(TABLES, [NOTE])
        tables = [table for (table,) in cursor.fetchall()]
        cursor.execute(MAKE)
        for table in tables:
            cursor.execute(
                f"CREATE TRIGGER {NOTE} AFTER INSERT OR UPDATE OR DELETE ON {table}"
                f" FOR EACH ROW EXECUTE FUNCTION {NOTE}()"
            )
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP FUNCTION {NOTE}() CASCADE; DROP TABLE {NOTE};")


def take() -> list[Change]:
    """The changes since the last call, in their order."""
    with connection.cursor() as cursor:
        cursor.execute(TAKE)
        rows = sorted(cursor.fetchall())
    return [
        Change(table, operation, json.loads(before or "{}"), json.loads(after or "{}"))
        for _, table, operation, before, after in rows
    ]
