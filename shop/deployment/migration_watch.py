"""A thread that watches a migration by a session of its own: how long, at what, for whom."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

import psycopg
from django.db.backends.base.base import BaseDatabaseWrapper

from shop.deployment.lock_waits import LockWait, find_lock_wait, shorten_query

SECONDS_BETWEEN_LOOKS = 0.2
SECONDS_BETWEEN_LINES = 10.0


class MigrationWatch:
    """Watches while its block runs. It looks at the database only while a statement takes long.

    ``write_line`` gets a line about a migration that takes long, every ten seconds.
    """

    def __init__(self, connection: BaseDatabaseWrapper, write_line: Callable[[str], object]):
        self._connection = connection
        self._write_line = write_line
        self._observer: psycopg.Connection[Any] | None = None
        self._noting = ExitStack()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._statement: tuple[str, float] | None = None
        self._work: tuple[str, float] | None = None
        self._lines = 0
        self.last_wait: LockWait | None = None
        """The last wait for a lock since the migration began."""

    def begin(self, name: str) -> None:
        """A migration of that name begins."""
        self._lines, self.last_wait, self._work = 0, None, (name, time.monotonic())

    def end(self) -> float:
        """The migration has ended; return its seconds."""
        work, self._work = self._work, None
        return time.monotonic() - work[1] if work else 0.0

    def __enter__(self) -> MigrationWatch:
        self._connection.ensure_connection()
        self._pid = self._connection.connection.info.backend_pid
        self._noting.enter_context(self._connection.execute_wrapper(self._note_statement))
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._noting.close()
        self._ended.set()
        self._thread.join()

    def _note_statement(self, execute: Any, sql: Any, *args: Any) -> Any:
        self._statement = (str(sql), time.monotonic())
        try:
            return execute(sql, *args)
        finally:
            self._statement = None

    # In the thread

    def _watch(self) -> None:
        try:
            while not self._ended.wait(SECONDS_BETWEEN_LOOKS):
                wait = self._look()
                self.last_wait = wait or self.last_wait
                self._write_line_if_due(wait)
        finally:
            if self._observer:
                self._observer.close()

    def _look(self) -> LockWait | None:
        statement = self._statement
        if statement is None or time.monotonic() - statement[1] < SECONDS_BETWEEN_LOOKS:
            return None
        with suppress(psycopg.Error):  # we may be one connection too many
            if self._observer is None or self._observer.closed:
                self._observer = psycopg.connect(
                    **{**self._connection.get_connection_params(), "autocommit": True}
                )
            return find_lock_wait(self._observer, self._pid)
        return None

    def _write_line_if_due(self, wait: LockWait | None) -> None:
        work, statement = self._work, self._statement
        if work is None:
            return
        name, started = work
        seconds = time.monotonic() - started
        if seconds < SECONDS_BETWEEN_LINES * (self._lines + 1):
            return
        self._lines += 1
        if wait:
            now = f"waits for {wait}"
        elif statement:
            now = f"works at {shorten_query(statement[0])}"
        else:
            now = "works in Python"
        self._write_line(f"{name}: {seconds:.0f} s. It {now}")
