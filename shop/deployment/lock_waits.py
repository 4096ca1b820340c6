"""Our session's waits for locks: bounded, and seen from another session.

Behind a pooler of transactions a session's settings and locks don't last, and would reach other
programs. There nothing is set, and the pooler's own timeouts count (shop/deployment/README.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper

from shop.logs.scrubbing import scrub

CONCURRENTLY = re.compile(r"\bCONCURRENTLY\b", re.IGNORECASE)
NEW_INDEX = re.compile(
    r"CREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+(?:IF\s+NOT\s+EXISTS\s+)?"
    r'(?P<name>"[^"]+"|\w+)',
    re.IGNORECASE,
)
# A quote in a quoted name or in a comment begins no literal. Each end may be cut off.
COMMENT = r"""
    --[^\n]*
  | /\*(?:(?!/\*|\*/).)*\*/
  | /\*.*                            # one within another
"""
VALUE = r"""
    (?<![\w$])E'(?:[^'\\]|\\.|'')*'?
  | '(?:[^']|'')*'?
  | (?<![\w$])\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?(?:\$(?P=tag)\$|\Z)
  | (?<![\w"$.])-?\d[\w.]*
"""
TOKENS = re.compile(
    rf'(?P<name>"(?:[^"]|"")*"?)|(?P<comment>{COMMENT})|(?P<value>{VALUE})',
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
LONGEST_QUERY = 100  # characters


@contextmanager
def bounded(connection: BaseDatabaseWrapper, seconds: float) -> Iterator[None]:
    """Let no statement of the block wait for a lock for longer than ``seconds``.

    A statement with CONCURRENTLY waits as long as it must. Nobody queues behind it, and broken off
    it would leave an invalid index. One that was left is dropped before it is made anew.
    """
    before = _set_lock_timeout(connection, f"{int(seconds * 1000)}ms")

    def execute(do: Any, sql: Any, *args: Any) -> Any:
        if not CONCURRENTLY.search(str(sql)):
            return do(sql, *args)
        bound = _set_lock_timeout(connection, "0")
        try:
            if new := NEW_INDEX.match(str(sql).strip()):
                drop_broken_index(connection, new["name"])
            return do(sql, *args)
        finally:
            _set_lock_timeout(connection, bound)

    try:
        with connection.execute_wrapper(execute):
            yield
    finally:
        with suppress(psycopg.Error, DatabaseError):  # the connection may be lost
            _set_lock_timeout(connection, before)


def _set_lock_timeout(connection: BaseDatabaseWrapper, value: str | None) -> str | None:
    """Set it unless a pooler is in between; return what it was before."""
    if value is None or goes_through_pooler(connection):
        return None
    # Not by a cursor of Django's, which would call our own wrapper.
    with connection.connection.cursor() as cursor:
        [before] = cursor.execute("SELECT current_setting('lock_timeout')").fetchone()
        cursor.execute("SELECT set_config('lock_timeout', %s, false)", [value])
    return str(before)


def drop_broken_index(connection: BaseDatabaseWrapper, name: str) -> None:
    """Drop the invalid index of this name, which an earlier try left when it was broken off.

    ``name`` is written as in SQL.
    """
    with connection.connection.cursor() as cursor:
        cursor.execute(
            "SELECT FROM pg_index WHERE indexrelid = to_regclass(%s) AND NOT indisvalid", [name]
        )
        if cursor.rowcount:
            cursor.execute(f"DROP INDEX CONCURRENTLY {name}")


def goes_through_pooler(connection: BaseDatabaseWrapper) -> bool:
    """Whether another process of the server serves us than the one we reached."""
    connection.ensure_connection()
    [serves_us] = connection.connection.execute("SELECT pg_backend_pid()").fetchone()
    return bool(serves_us != connection.connection.info.backend_pid)


# Seen from another session


@dataclass(frozen=True)
class Blocker:
    """A session that keeps what another one waits for."""

    pid: int
    name: str
    since: datetime | None
    seconds: int
    state: str
    query: str

    def __str__(self) -> str:
        if self.pid == 0:
            return "a prepared transaction (SELECT * FROM pg_prepared_xacts)"
        since = f", since {self.since:%H:%M:%S %Z} ({self.seconds} s)" if self.since else ""
        return f"process {self.pid} ({self.name}){since}, {self.state}: {self.query}"


@dataclass(frozen=True)
class LockWait:
    """A session's wait for a lock, and the sessions in its way."""

    wanted: str
    blockers: tuple[Blocker, ...]

    def __str__(self) -> str:
        return self.wanted + "".join(f"\n      In its way: {each}" for each in self.blockers)


def find_lock_wait(observer: psycopg.Connection[Any], pid: int) -> LockWait | None:
    """Return what the session of that pid waits for at this moment; None if for no lock."""
    waits = observer.execute(WAITS, {"pid": pid}).fetchone()
    if waits is None:
        return None
    blockers = [
        Blocker(
            blocker, scrub(name), since, int(seconds or 0), state or "", shorten_query(query or "")
        )
        for blocker, name, since, seconds, state, query in observer.execute(BLOCKERS, {"pid": pid})
    ]
    return LockWait(f"the table {waits[0]}" if waits[0] else "a lock", tuple(blockers))


# A row's lock is waited for as the transaction that has it; then the row's table is in our lock
# of type "tuple".
WAITS = """
    SELECT coalesce(relation, (
        SELECT relation FROM pg_locks WHERE pid = %(pid)s AND locktype = 'tuple' LIMIT 1
    ))::regclass::text
    FROM pg_locks WHERE pid = %(pid)s AND NOT granted LIMIT 1
"""
BLOCKERS = """
    SELECT blocker.pid, concat_ws(', ', nullif(application_name, ''), 'user ' || usename,
            'from ' || host(client_addr), nullif(backend_type, 'client backend')),
        xact_start, extract(epoch FROM clock_timestamp() - xact_start), state, query
    FROM (SELECT DISTINCT unnest(pg_blocking_pids(%(pid)s)) AS pid) AS blocker
    LEFT JOIN pg_stat_activity AS activity ON activity.pid = blocker.pid
    ORDER BY xact_start
"""


def shorten_query(sql: str) -> str:
    """The statement in one short line, without values and comments: these may name people."""
    line = scrub(" ".join(TOKENS.sub(_without_values, sql).split()))
    return line if len(line) <= LONGEST_QUERY else line[: LONGEST_QUERY - 1] + "…"


def _without_values(token: re.Match[str]) -> str:
    if token["name"]:
        return token["name"]
    return " " if token["comment"] else "…"
