"""Questions to PostgreSQL: which session waits for which, and what its tables look like."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import psycopg
from django.db import connections

from .errors import Misuse
from .statements import COMPARABLE, Key, tables_in

# Documented functions; the second is about SERIALIZABLE READ ONLY DEFERRABLE.
BLOCKED = """
    SELECT pid FROM unnest(%(pids)s::int[]) AS pid
    WHERE pg_blocking_pids(pid) && %(ours)s::int[]
        OR pg_safe_snapshot_blocking_pids(pid) && %(ours)s::int[]
"""
# A session that waits for a row waits for that row's transaction. Meanwhile it has a lock on the
# tuple, and this lock names the table.
WAIT = """
    SELECT pg_blocking_pids(waits.pid), waits.locktype, waits.mode, coalesce(
        waits.relation,
        (SELECT held.relation FROM pg_locks AS held
         WHERE held.pid = waits.pid AND held.granted AND held.locktype = 'tuple' LIMIT 1)
    )::regclass::text
    FROM pg_locks AS waits WHERE waits.pid = %(pid)s AND NOT waits.granted LIMIT 1
"""
TABLES = """
    SELECT class.oid, class.relname,
        ARRAY(
            SELECT attname || ' ' || typname FROM pg_attribute
            JOIN pg_type ON pg_type.oid = atttypid
            WHERE attrelid = class.oid AND attnum > 0 AND NOT attisdropped ORDER BY attnum
        ),
        ARRAY(
            SELECT attname::text FROM pg_index
            JOIN pg_attribute ON attrelid = class.oid AND attnum = ANY (indkey)
            WHERE indrelid = class.oid AND indisprimary
        ),
        class.relkind IN ('v', 'p', 'f') OR class.relhasrules OR class.relhassubclass OR EXISTS (
            SELECT FROM pg_trigger WHERE tgrelid = class.oid AND NOT tgisinternal
        ),
        (
            SELECT attname || ' ' || typname FROM pg_index
            JOIN pg_attribute ON attrelid = class.oid AND attnum = indkey[0]
            JOIN pg_type ON pg_type.oid = atttypid
            LEFT JOIN pg_collation ON pg_collation.oid = attcollation
            WHERE indrelid = class.oid AND indisprimary AND indnkeyatts = 1
                AND collisdeterministic IS NOT FALSE AND class.relkind = 'r'
        )
    FROM pg_class AS class
    WHERE class.relkind IN ('r', 'v', 'p', 'f') AND pg_table_is_visible(class.oid)
        AND class.relnamespace <> 'pg_catalog'::regnamespace
"""
FOREIGN_KEYS = """
    SELECT child.relname, attname, parent.relname,
        NOT condeferred OR confdeltype IN ('c', 'n', 'd') OR confupdtype IN ('c', 'n', 'd')
    FROM pg_constraint
    JOIN pg_class AS child ON child.oid = conrelid
    JOIN pg_class AS parent ON parent.oid = confrelid
    JOIN pg_attribute ON attrelid = conrelid AND attnum = conkey[1]
    WHERE contype = 'f' AND cardinality(conkey) = 1
"""
OTHERS_DOING = """
    SELECT pid, coalesce(nullif(application_name, ''), backend_type), left(query, 200)
    FROM pg_stat_activity WHERE pid = ANY (pg_blocking_pids(%(pid)s))
"""
# A session at its gate is idle in transaction. No timeout may end it for that.
SESSION_SETTINGS = {
    "lock_timeout": "0",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "synchronous_commit": "off",  # what is committed is visible all the same
}
# A waiting backend looks for a deadlock once, after deadlock_timeout, and then reports that it is
# still waiting: to the session, which asks for that, and not to the server's log.
LOOK_SETTINGS = {
    "deadlock_timeout": "1ms",
    "log_lock_waits": "on",
    "client_min_messages": "log",
    "log_min_messages": "panic",
}


@dataclass(frozen=True)
class Wait:
    """A session's wait for a lock that the sessions named in ``on`` have."""

    on: tuple[str, ...]
    lock: str

    def __str__(self) -> str:
        return f"waiting on {' and '.join(self.on)}: {self.lock}"


@dataclass(frozen=True)
class Table:
    """A table, as the catalogue describes it."""

    name: str
    columns: dict[str, str]
    primary_key: tuple[str, ...]
    has_side_effects: bool
    """It has triggers or rules, or is a view: writes may touch tables that they don't name."""
    key: Key | None = None
    """The primary key, if it is one column whose values can be compared as text."""
    parents: dict[str, str] = field(default_factory=dict)
    """Column → the table that it refers to."""
    touches: set[str] = field(default_factory=set)
    """Tables that a write here looks at or changes at once (foreign keys not deferred)."""


class Server:
    """The explorer's own connection, beside those of the sessions."""

    def __init__(self, using: str) -> None:
        self._wrapper = connections[using].copy()
        self._wrapper.ensure_connection()
        self._connection: psycopg.Connection[Any] = self._wrapper.connection
        self._connection.prepare_threshold = 0  # a few questions are asked very often
        self.version = self._ask("SHOW server_version")[0][0].split()[0]
        self.isolation = self._ask("SHOW default_transaction_isolation")[0][0]
        self.reports_looks = all(self._may_set(name) for name in LOOK_SETTINGS)
        """Whether PostgreSQL tells a session that it has looked for a deadlock."""
        self.tables = self._tables()
        self.primary_keys = {name: table.key for name, table in self.tables.items() if table.key}

    def close(self) -> None:
        self._wrapper.close()

    def reach_of(self, sql: str) -> frozenset[str]:
        """The tables that a statement may read or change, by its text and the catalogue."""
        named = tables_in(sql, self.tables)
        if any(self.tables[name].has_side_effects for name in named):
            return frozenset(self.tables)
        return named.union(*(self.tables[name].touches for name in named))

    # Waits

    def blocked(self, pids: Iterable[int], ours: Iterable[int]) -> set[int]:
        """The backends that wait for a lock which one of ``ours`` has, or asked for first."""
        rows = self._ask(BLOCKED, {"pids": list(pids), "ours": list(ours)})
        return {pid for (pid,) in rows}

    def wait_of(self, pid: int, names: dict[int, str]) -> Wait:
        """The lock that a blocked backend waits for; ``names`` are the sessions', by backend."""
        rows = self._ask(WAIT, {"pid": pid})
        if not rows:
            return Wait(tuple(n for p, n in names.items() if p != pid), "a lock")
        [(blockers, locktype, mode, table)] = rows
        on = tuple(sorted(names.get(blocker, f"process {blocker}") for blocker in set(blockers)))
        return Wait(on, lock_in_words(locktype, mode, table))

    def blockers_in_words(self, pid: int) -> str:
        """The backends outside of our sessions that a backend waits for, in words."""
        rows = self._ask(OTHERS_DOING, {"pid": pid})
        return "; ".join(f"process {other} ({name}): {query}" for other, name, query in rows)

    # Ending

    def cancel(self, pid: int) -> None:
        self._ask("SELECT pg_cancel_backend(%(pid)s)", {"pid": pid})

    def terminate(self, pid: int) -> None:
        self._ask("SELECT pg_terminate_backend(%(pid)s)", {"pid": pid})

    # Settings and rows

    def session_settings(self, isolation: str | None) -> tuple[str, dict[str, str]]:
        """The statement, with its values, that a session's connection starts with."""
        settings = dict(SESSION_SETTINGS)
        if int(self.version.split(".")[0]) >= 17:
            settings["transaction_timeout"] = "0"
        if self.reports_looks:
            settings.update(LOOK_SETTINGS)
        if isolation is not None:
            settings["default_transaction_isolation"] = isolation
        calls = ", ".join(f"set_config('{name}', %({name})s, false)" for name in settings)
        return f"SELECT pg_backend_pid(), {calls}", settings

    def rows(self, table: str) -> list[dict[str, Any]]:
        """All rows of a table as committed, as text."""
        [columns] = [list(self.tables[table].columns)]
        chosen = ", ".join(f'"{column}"::text' for column in columns)
        return [
            dict(zip(columns, row, strict=True))
            for row in self._ask(f'SELECT {chosen} FROM "{table}"')
        ]

    def _tables(self) -> dict[str, Table]:
        tables = {
            name: Table(
                name,
                dict(c.rsplit(" ", 1) for c in columns),
                tuple(primary_key),
                effects,
                comparable_key(key),
            )
            for _, name, columns, primary_key, effects, key in self._ask(TABLES)
        }
        touches = defaultdict(set)
        for child, column, parent, at_once in self._ask(FOREIGN_KEYS):
            if child in tables and parent in tables:
                tables[child].parents[column] = parent
                if at_once:
                    touches[child].add(parent)
                    touches[parent].add(child)
        for name, others in touches.items():
            tables[name].touches.update(others)
        return tables

    def _may_set(self, parameter: str) -> bool:
        try:
            self._ask(f"SET {parameter} = DEFAULT")
        except psycopg.errors.InsufficientPrivilege:
            return False
        return True

    def _ask(self, sql: str, parameters: dict[str, Any] | None = None) -> list[Any]:
        with psycopg.Cursor(self._connection) as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetchall() if cursor.description else []


def comparable_key(column: str | None) -> Key | None:
    """The column and its type, if values of this type can be compared as text."""
    name, _, type_name = (column or "").rpartition(" ")
    return Key(name, type_name) if type_name in COMPARABLE else None


def goes_through_pooler(using: str) -> bool:
    """Whether a pooler, such as PgBouncer, is between us and the server, and hides who serves us.

    A pooler makes up the process number and key that a client gets for cancelling.
    """
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        [(serves_us,)] = cursor.fetchall()
    return bool(connections[using].connection.info.backend_pid != serves_us)


def check_direct(using: str) -> None:
    """Raise Misuse if a pooler is in between: it would pass one session's settings on to others.

    Call this before any setting is made, so that none stays on the pooler's connections.
    """
    if goes_through_pooler(using):
        raise Misuse(
            "The connection goes through a pooler. Races need sessions of their own: "
            "connect to PostgreSQL directly."
        )


def lock_in_words(locktype: str, mode: str, table: str | None) -> str:
    """The name of a lock of ``pg_locks`` in a transcript."""
    if locktype in ("transactionid", "tuple"):
        return f"row lock on {table}" if table else "a row that isn't committed yet"
    if locktype == "relation":
        return f"table lock on {table} ({mode})"
    if locktype == "advisory":
        return "advisory lock"
    return f"{locktype} lock" + (f" on {table}" if table else "")
