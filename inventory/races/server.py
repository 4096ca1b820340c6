"""Questions to PostgreSQL: which session waits for which, and what its tables look like."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

try:
    import psycopg
except ImportError as error:
    raise ImportError(
        "Races are explored on PostgreSQL only, by psycopg 3, which isn't installed: "
        "pip install “psycopg[binary]”."
    ) from error
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.backends.postgresql.psycopg_any import is_psycopg3
from psycopg.sql import SQL, Composed

from .errors import Misuse
from .parts import COMPARABLE, Key, is_plain_insert
from .statements import (
    Kind,
    assignments,
    functions_in,
    kind_of,
    reads_clock,
    tables_in,
    words_in,
)
from .touch import NOTHING, UNKNOWN, Touch, all_of

if TYPE_CHECKING:
    from .session import Step

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
# Named as in PostgreSQL's own report of a wait.
WAITED_FOR = """
    SELECT pid, CASE locktype
        WHEN 'transactionid' THEN format('transaction %%s', transactionid)
        WHEN 'virtualxid' THEN format('virtual transaction %%s', virtualxid)
        WHEN 'relation' THEN format('relation %%s of database %%s', relation, database)
        WHEN 'tuple' THEN format(
            'tuple (%%s,%%s) of relation %%s of database %%s', page, tuple, relation, database
        )
        WHEN 'advisory' THEN
            format('advisory lock [%%s,%%s,%%s,%%s]', database, classid, objid, objsubid)
    END
    FROM pg_locks WHERE pid = ANY (%(pids)s) AND NOT granted
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
        class.relkind IN ('v', 'p', 'f') OR class.relhasrules OR class.relhassubclass
            OR class.relrowsecurity,
        EXISTS (SELECT FROM pg_trigger WHERE tgrelid = class.oid AND NOT tgisinternal),
        ARRAY(
            SELECT DISTINCT attname::text FROM pg_index
            JOIN pg_attribute ON attrelid = class.oid
                AND (attnum = ANY (indkey) OR 0 = ANY (indkey) OR indpred IS NOT NULL)
            WHERE indrelid = class.oid AND NOT indisprimary AND (indisunique OR indisexclusion)
                AND attnum > 0
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
# Functions of the database's own may do anything. Only of those that are IMMUTABLE is it known
# that they read nothing. Their text says whether they write, except of those in C, which do not.
FUNCTIONS = """
    SELECT proname, CASE WHEN lanname NOT IN ('c', 'internal') AND provolatile = 'v'
        THEN coalesce(pg_get_function_sqlbody(pg_proc.oid), prosrc) ELSE '' END
    FROM pg_proc JOIN pg_language ON pg_language.oid = prolang
    WHERE provolatile <> 'i' AND pronamespace <> 'pg_catalog'::regnamespace
        AND prorettype <> 'trigger'::regtype
"""
WRITING = {
    "INSERT", "UPDATE", "DELETE", "MERGE", "TRUNCATE", "COPY", "EXECUTE", "LOCK", "NOTIFY",
    "NEXTVAL", "SETVAL", "PG_NOTIFY", "PG_ADVISORY_LOCK", "PG_ADVISORY_XACT_LOCK",
}  # fmt: skip
"""Words of functions that other sessions may notice."""
LONGEST_WAIT = "2s"  # of the explorer itself, for a lock of somebody who is no session
SHORT_WAIT = "50ms"  # for a lock, where nothing depends on the answer
READABLE = """
    SELECT relname FROM pg_class
    WHERE relkind IN ('r', 'p') AND pg_table_is_visible(oid)
        AND relnamespace <> 'pg_catalog'::regnamespace AND has_table_privilege(oid, 'SELECT')
"""
FOREIGN_KEYS = """
    SELECT child.relname, attname, parent.relname, cardinality(conkey) = 1,
        NOT condeferred OR confdeltype IN ('c', 'n', 'd') OR confupdtype IN ('c', 'n', 'd')
    FROM pg_constraint
    JOIN pg_class AS child ON child.oid = conrelid
    JOIN pg_class AS parent ON parent.oid = confrelid
    JOIN pg_attribute ON attrelid = conrelid AND attnum = conkey[1]
    WHERE contype = 'f'
"""
COLUMN_DEFAULTS = """
    SELECT relname, pg_get_expr(adbin, adrelid) FROM pg_attrdef
    JOIN pg_class ON pg_class.oid = adrelid WHERE pg_table_is_visible(adrelid)
"""
OTHERS_DOING = """
    SELECT pid, coalesce(nullif(application_name, ''), backend_type), left(query, 200)
    FROM pg_stat_activity WHERE pid = ANY (pg_blocking_pids(%(pid)s))
"""
WHY_POSTGRESQL = (
    "Only PostgreSQL can be explored: the explorer asks PostgreSQL which session waits for which "
    "lock, and knows what its isolation levels do. There is nothing of the kind here for others."
)
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
    "lc_messages": "C",  # its reports are read
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
    stands_for_others: bool
    """It is a view, has rules, heirs or policies: reads may look at tables that they don't name."""
    has_triggers: bool
    """Writes may touch tables that they don't name."""
    unique_columns: frozenset[str]
    """Columns of constraints in which two rows can meet, besides the primary key."""
    key: Key | None = None
    """The primary key, if it is one column whose values can be compared as text."""
    parents: dict[str, str] = field(default_factory=dict)
    """Column → the table that it refers to."""
    touches: set[str] = field(default_factory=set)
    """Tables that a write here looks at or changes at once (foreign keys not deferred)."""
    checked_at_commit: set[str] = field(default_factory=set)
    """Tables that COMMIT looks at after a write here (foreign keys deferred)."""


class Server:
    """The explorer's own connection, beside those of the sessions."""

    def __init__(self, using: str) -> None:
        self._wrapper = connections[using].copy()
        self._wrapper.ensure_connection()
        self._connection: psycopg.Connection[Any] = self._wrapper.connection
        self._connection.prepare_threshold = 0  # a few questions are asked very often
        self.ask(f"SET lock_timeout = '{LONGEST_WAIT}'")
        self.version = self.ask("SHOW server_version")[0][0].split()[0]
        self.isolation = self._isolation()
        self.reports_looks = all(self.may_set(name) for name in LOOK_SETTINGS)
        """Whether PostgreSQL tells a session that it has looked for a deadlock."""
        self.tables = self._tables()
        self.primary_keys = {name: table.key for name, table in self.tables.items() if table.key}
        functions = self.ask(FUNCTIONS)
        self._functions = frozenset(name for name, _ in functions)
        self._writing = writing_functions(functions)
        self._tables_with_clocks = {
            *(name for name, default in self.ask(COLUMN_DEFAULTS) if reads_clock(default)),
            *(n for n, each in self.tables.items() if each.stands_for_others or each.has_triggers),
        }

    def close(self) -> None:
        self._wrapper.close()

    # The tables and rows of a statement

    def kind_of(self, sql: str) -> Kind:
        """The kind of a statement: a SELECT may call a function that writes."""
        kind = kind_of(sql)
        calls = functions_in(sql) & self._writing.keys()
        return Kind.OTHER if calls and kind in (Kind.READ, Kind.LOCK) else kind

    def reach_of(self, sql: str, kind: Kind) -> frozenset[str]:
        """The tables that a statement may read or change, by its text and the catalogue."""
        called = functions_in(sql) & self._writing.keys()
        named = tables_in(sql, self.tables).union(
            *(self._writing[name] & self.tables.keys() for name in called)
        )
        known = [self.tables[name] for name in named]
        if any(table.stands_for_others for table in known):
            return frozenset(self.tables)
        if kind in (Kind.READ, Kind.LOCK):
            return named
        if any(table.has_triggers for table in known):
            return frozenset(self.tables)
        return named.union(*(table.touches for table in known))

    def touch_of(self, step: Step) -> Touch:
        """The rows by which a statement can concern other sessions' steps, if that is certain.

        An INSERT that was executed is known better: it has returned its row's key.
        """
        touch = self._touch_of_rows(step)
        return touch.reading_clock() if self._reads_clock(step.sql) else touch

    def _touch_of_rows(self, step: Step) -> Touch:
        if step.kind is Kind.LOCAL:
            return NOTHING
        if step.kind is Kind.OTHER or not step.tables or words_in(step.sql) & self._functions:
            return UNKNOWN
        rows = step.only_concerns
        extent = all_of(step.tables) if rows is None else {rows.table: rows.keys}
        if step.kind is Kind.READ:
            return Touch(sees=extent)
        if step.kind is Kind.LOCK:
            return Touch(sees=extent, takes=extent)
        unique = all_of(unique_values(name) for name in step.tables if self._claims(step, name))
        sees = takes = {**extent, **unique}
        if rows is None and is_plain_insert(step.sql) and len(step.tables) == 1:
            sees = takes = dict(unique)  # its row is new: nobody has seen or locked it
        named = tables_in(step.sql, self.tables)
        checks = set().union(*(self.tables[name].checked_at_commit for name in named))
        touch = Touch(sees=sees, takes=takes, changes={**extent, **unique}, checks=all_of(checks))
        return touch.at_once() if step.is_autocommit else touch

    def _reads_clock(self, sql: str) -> bool:
        """Whether PostgreSQL may read its clock for a statement, also for a column's default."""
        tables = tables_in(sql, self._tables_with_clocks)
        return bool(tables) or reads_clock(sql)

    def _claims(self, step: Step, name: str) -> bool:
        """Whether a write may claim or free a value that no two rows of the table may have."""
        if not step.sql.startswith("UPDATE"):
            return True
        written = {column for column, _ in assignments(step.sql)}
        table = self.tables[name]
        return not written or bool(written & {*table.unique_columns, *table.primary_key})

    # Waits

    def blocked(self, pids: Iterable[int], ours: Iterable[int]) -> set[int]:
        """The backends that wait for a lock which one of ``ours`` has, or asked for first."""
        rows = self.ask(BLOCKED, {"pids": list(pids), "ours": list(ours)})
        return {pid for (pid,) in rows}

    def locks_waited_for(self, pids: Iterable[int]) -> dict[int, str]:
        """The locks that backends wait for, of the kinds that PostgreSQL's report can name."""
        rows = self.ask(WAITED_FOR, {"pids": list(pids)})
        return {pid: lock for pid, lock in rows if lock}

    def wait_of(self, pid: int, names: dict[int, str]) -> Wait:
        """The lock that a blocked backend waits for; ``names`` are the sessions', by backend."""
        rows = self.ask(WAIT, {"pid": pid})
        if not rows:
            return Wait(tuple(n for p, n in names.items() if p != pid), "a lock")
        [(blockers, locktype, mode, table)] = rows
        on = tuple(sorted(names.get(blocker, f"process {blocker}") for blocker in set(blockers)))
        return Wait(on, lock_in_words(locktype, mode, table))

    def blockers_in_words(self, pid: int) -> str:
        """The backends outside of our sessions that a backend waits for, in words."""
        rows = self.ask(OTHERS_DOING, {"pid": pid})
        return "; ".join(f"process {other} ({name}): {query}" for other, name, query in rows)

    # Ending

    def cancel(self, pid: int) -> None:
        self.ask("SELECT pg_cancel_backend(%(pid)s)", {"pid": pid})

    def terminate(self, pid: int) -> None:
        self.ask("SELECT pg_terminate_backend(%(pid)s)", {"pid": pid})

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

    def rows(self, table: str, most: int) -> list[dict[str, Any]] | None:
        """All rows of a table as committed, as text.

        None if there are more than ``most``, or if somebody else has locked the table.
        """
        columns = list(self.tables[table].columns)
        chosen = ", ".join(f'"{column}"::text' for column in columns)
        try:
            rows = self.ask(f'SELECT {chosen} FROM "{table}" LIMIT {most + 1}')
        except psycopg.errors.LockNotAvailable:
            return None
        if len(rows) > most:
            return None
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def readable_tables(self) -> set[str]:
        """The tables, and no views, that the role may read."""
        return {name for (name,) in self.ask(READABLE)}

    def _tables(self) -> dict[str, Table]:
        tables = {
            name: Table(
                name,
                dict(c.rsplit(" ", 1) for c in columns),
                tuple(primary_key),
                stands_for_others,
                has_triggers,
                frozenset(unique_columns),
                comparable_key(key),
            )
            for (
                _,
                name,
                columns,
                primary_key,
                stands_for_others,
                has_triggers,
                unique_columns,
                key,
            ) in self.ask(TABLES)
        }
        for child, column, parent, is_simple, at_once in self.ask(FOREIGN_KEYS):
            if child in tables and parent in tables:
                if is_simple:
                    tables[child].parents[column] = parent
                for one, other in ((child, parent), (parent, child)):
                    table = tables[one]
                    (table.touches if at_once else table.checked_at_commit).add(other)
        return tables

    def _isolation(self) -> str:
        """The level of the sessions: Django's own option, which wins, or the server's setting."""
        level = self._connection.isolation_level
        if level is not None:
            return level.name.replace("_", " ").lower()
        return str(self.ask("SHOW default_transaction_isolation")[0][0])

    def may_set(self, parameter: str) -> bool:
        """Whether the database role may set this parameter."""
        try:
            self.ask(f"SET {parameter} = DEFAULT")
        except psycopg.errors.InsufficientPrivilege:
            return False
        return True

    def ask(self, sql: str, parameters: dict[str, Any] | None = None) -> list[Any]:
        """Execute a statement, and return its rows."""
        with psycopg.Cursor(self._connection) as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetchall() if cursor.description else []

    def rows_if_free(self, query: str, most: int) -> list[Any]:
        """Rows of a query that may not write; no rows if it fails, or would wait for a lock."""
        with contextlib.suppress(psycopg.Error), self._connection.transaction(force_rollback=True):
            self._connection.execute("SET TRANSACTION READ ONLY")
            self._connection.execute(f"SET LOCAL lock_timeout = '{SHORT_WAIT}'")
            with psycopg.ClientCursor(self._connection) as cursor:
                cursor.execute(query.encode())
                return cursor.fetchmany(most)
        return []

    def execute(self, statements: SQL | Composed) -> None:
        """Execute statements that are used once, in one round trip."""
        with psycopg.Cursor(self._connection) as cursor:
            cursor.execute(statements, prepare=False)


def unique_values(table: str) -> str:
    """The name for the unique values of a table, as if they were a table of their own.

    Writes of different rows can meet there.
    """
    return f"{table} (unique values)"


def comparable_key(column: str | None) -> Key | None:
    """The column and its type, if values of this type can be compared as text."""
    name, _, type_name = (column or "").rpartition(" ")
    return Key(name, type_name) if type_name in COMPARABLE else None


def check_vendor(using: str, why: str = WHY_POSTGRESQL) -> None:
    """Raise Misuse if the database isn't PostgreSQL by psycopg 3; connects to nothing."""
    if using not in connections:
        names = " and ".join(f"“{alias}”" for alias in connections)
        raise Misuse(f"The settings have no database “{using}”, only {names}.")
    try:
        connection = connections[using]
    except ImproperlyConfigured as error:
        engine = connections.settings[using]["ENGINE"]
        raise Misuse(
            f"The database “{using}” has the engine {engine}, which can't be loaded: "
            f"{str(error).splitlines()[0]} {why}"
        ) from error
    if connection.vendor == "unknown":
        raise Misuse(f"The settings say no ENGINE for the database “{using}”.")
    if connection.vendor != "postgresql":
        raise Misuse(f"The database “{using}” is {connection.display_name}. {why}")
    if not is_psycopg3:
        raise Misuse(
            f"The database “{using}” is used by psycopg2. Races need psycopg 3: install it "
            "(“psycopg[binary]”), and Django uses it."
        )


def check_server(using: str) -> None:
    """Raise Misuse if the server only speaks as PostgreSQL does, and has no lock table like it."""
    version = version_of(using)
    if not version.startswith("PostgreSQL"):
        raise Misuse(f"The database “{using}” is {version.split()[0]}. {WHY_POSTGRESQL}")


def version_of(using: str) -> str:
    """The server's name and version, in its own words."""
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT version()")
        [(version,)] = cursor.fetchall()
    return str(version)


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


def writing_functions(functions: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    """The functions that may write, by name, with all words of theirs and of those they call."""
    words: dict[str, set[str]] = {}
    for name, text in functions:
        words.setdefault(name, set()).update(words_in(text))
    size = 0
    while size != (size := sum(map(len, words.values()))):
        for own in words.values():
            own.update(*(words[called] for called in own & words.keys()))
    return {name: own for name, own in words.items() if WRITING & {word.upper() for word in own}}
