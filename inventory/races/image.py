"""Brings the rows back that ``setup`` made, without calling it again.

A copy of each table is kept in a schema of its own. Before a schedule, the tables that earlier ones
may have written are filled from their copies, and their sequences go on from where they were.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any

import psycopg
from django.db import connections
from psycopg import sql

from .errors import Misuse
from .server import Server
from .session import Step
from .statements import Kind

SCHEMA = "races_image"
SWITCH = "session_replication_role"
"""The parameter that switches off triggers and foreign keys."""

# Without generated columns, which PostgreSQL fills by itself.
COPIED = """
    SELECT class.relname, ARRAY(
        SELECT attname::text FROM pg_attribute
        WHERE attrelid = class.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
        ORDER BY attnum
    )
    FROM pg_class AS class
    WHERE class.relkind = 'r' AND pg_table_is_visible(class.oid)
        AND class.relnamespace <> 'pg_catalog'::regnamespace
"""
# A sequence that no table owns may be used by any.
SEQUENCES = """
    SELECT sequence.oid::regclass::text, owner.relname
    FROM pg_class AS sequence
    LEFT JOIN pg_depend ON objid = sequence.oid AND deptype IN ('a', 'i')
        AND refclassid = 'pg_class'::regclass
    LEFT JOIN pg_class AS owner ON owner.oid = refobjid
    WHERE sequence.relkind = 'S' AND pg_table_is_visible(sequence.oid)
"""


class Image:
    """The rows of a database as they were when the image was taken."""

    def __init__(self, server: Server, using: str) -> None:
        self._server = server
        self._callers = connections[using]
        self._columns: dict[str, list[str]] = dict(server.ask(COPIED))
        self._sequences: dict[str, list[tuple[str, int, bool]]] = {}
        self._written: set[str] = set()
        self._may_switch_off = server.may_set(SWITCH)
        self._take()
        self._callers.execute_wrappers.append(self._note_callers)

    def close(self) -> None:
        """Drop the copies."""
        with contextlib.suppress(ValueError):  # the caller has closed and opened the connection
            self._callers.execute_wrappers.remove(self._note_callers)
        self._drop()

    def _take(self) -> None:
        self._drop()
        self._execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(SCHEMA)))
        for table in self._columns:
            self._execute(
                sql.SQL("CREATE UNLOGGED TABLE {} AS TABLE {}").format(
                    sql.Identifier(SCHEMA, table), sql.Identifier(table)
                )
            )
        for sequence, owner in self._server.ask(SEQUENCES):
            [[value, is_called]] = self._server.ask(f"SELECT last_value, is_called FROM {sequence}")
            self._sequences.setdefault(owner or "", []).append((sequence, value, is_called))

    def note(self, steps: Iterable[Step]) -> None:
        """Note the tables that these steps may have written."""
        for step in steps:
            if step.kind is Kind.OTHER:
                self._written |= self._columns.keys()
            elif step.kind is Kind.WRITE:
                self._written |= step.tables & self._columns.keys()

    def _note_callers(
        self, execute: Callable[..., object], sql: str, params: Any, many: bool, context: Any
    ) -> object:
        """Django's wrapper for what the caller writes: to prepare a session, or in an invariant."""
        kind = self._server.kind_of(sql)
        if kind in (Kind.WRITE, Kind.OTHER):
            self._written |= self._server.reach_of(sql, kind) & self._columns.keys()
        return execute(sql, params, many, context)

    def restore(self) -> None:
        """Bring all rows back that may have changed. No trigger and no foreign key takes notice.

        Raises Misuse if the database role may not switch them off.
        """
        if not self._written:
            return
        statements = self._as_superuser() if self._may_switch_off else self._as_owner()
        try:
            self._execute(sql.SQL("; ").join([sql.SQL("BEGIN"), *statements, sql.SQL("COMMIT")]))
        except (psycopg.errors.InsufficientPrivilege, psycopg.IntegrityError) as error:
            self._execute(sql.SQL("ROLLBACK"))
            raise Misuse(
                "image=True needs a database role that may switch off triggers: a superuser, or "
                "GRANT SET ON PARAMETER session_replication_role TO …. Without image=True, setup() "
                "runs before each schedule."
            ) from error
        self._written.clear()

    def _as_superuser(self) -> list[sql.Composable]:
        statements: list[sql.Composable] = [sql.SQL(f"SET LOCAL {SWITCH} = replica")]
        for table in sorted(self._written):
            statements += [sql.SQL("DELETE FROM ONLY {}").format(sql.Identifier(table))]
            statements += [self._filling(table)]
        for owner in ("", *sorted(self._written)):
            statements += self._resetting(owner)
        return statements

    def _as_owner(self) -> list[sql.Composable]:
        """The slower way, for the tables' owner: TRUNCATE asks no foreign key, if it is for all."""
        tables = sorted(self._columns)
        watched = [
            sql.Identifier(table) for table in tables if self._server.tables[table].has_triggers
        ]
        return [
            *(sql.SQL("ALTER TABLE {} DISABLE TRIGGER USER").format(each) for each in watched),
            sql.SQL("SET CONSTRAINTS ALL DEFERRED"),
            sql.SQL("TRUNCATE ONLY {}").format(sql.SQL(", ").join(map(sql.Identifier, tables))),
            *(self._filling(table) for table in tables),
            *(each for owner in ("", *tables) for each in self._resetting(owner)),
            sql.SQL("SET CONSTRAINTS ALL IMMEDIATE"),  # or their tables couldn't be altered
            *(sql.SQL("ALTER TABLE {} ENABLE TRIGGER USER").format(each) for each in watched),
        ]

    def _filling(self, table: str) -> sql.Composed:
        columns = sql.SQL(", ").join(map(sql.Identifier, self._columns[table]))
        return sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {}").format(
            sql.Identifier(table), columns, columns, sql.Identifier(SCHEMA, table)
        )

    def _resetting(self, owner: str) -> list[sql.Composed]:
        return [
            sql.SQL("SELECT setval({}, {}, {})").format(sequence, value, is_called)
            for sequence, value, is_called in self._sequences.get(owner, [])
        ]

    def _drop(self) -> None:
        self._execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(SCHEMA)))

    def _execute(self, statement: sql.SQL | sql.Composed) -> None:
        self._server.execute(statement)
