"""A read replica (REPLICA_URL) for pages that may be a moment old (``shop.delayed_pages``).

Nothing is decided on it. ``reading_from_replica`` sends the reads of a block there, and only those
outside of a transaction. A server that isn't a replica, or no longer, is never read.

How far it is behind is measured, not believed: twice a second each process notes how far the
primary's log had come, and up to which note the replica has replayed it. That needs no clocks that
agree, and it tells a replica that has lost its primary from one for which there is no news.
"""

from __future__ import annotations

import logging
import math
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

import psycopg
from django.conf import settings
from django.db import (
    DEFAULT_DB_ALIAS,
    DatabaseError,
    InterfaceError,
    OperationalError,
    connections,
)
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.db.models import Model

log = logging.getLogger(__name__)

REPLICA = "replica"  # its name in the setting DATABASES
APPS = ("inventory", "shop")  # whose tables are read there
SECONDS_BETWEEN_LOOKS = 0.5
MOST_NOTES = 1000
NOT_ASKED = "it hasn't been asked yet."
NO_REPLICA = "REPLICA_URL names a server that isn't a replica, or no longer."
# A replica has its primary's identifier: it was made when the primary's files were.
IDENTITY = """
    SELECT system_identifier, current_database(), pg_is_in_recovery() FROM pg_control_system()
"""

_reading: ContextVar[bool] = ContextVar("reading_from_replica", default=False)


class Router:
    """Django's router: reads of a block of ``reading_from_replica`` go to the replica."""

    def db_for_read(self, model: type[Model], **hints: Any) -> str | None:
        if not _reading.get() or model._meta.app_label not in APPS:
            return None
        # Reads within a transaction belong to its writes.
        return None if connections[DEFAULT_DB_ALIAS].in_atomic_block else REPLICA

    def db_for_write(self, model: type[Model], **hints: Any) -> str:
        return DEFAULT_DB_ALIAS  # also of a row that was read from the replica

    def allow_relation(self, one: Model, other: Model, **hints: Any) -> bool:
        return True  # both are rows of the same database

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return False if db == REPLICA else None


@contextmanager
def reading_from_replica() -> Iterator[None]:
    """Read from the replica within the block. The caller has asked ``is_usable``."""
    before = _reading.set(True)
    try:
        yield
    finally:
        _reading.reset(before)


def is_usable() -> bool:
    """Whether there is a replica, and it is behind by REPLICA_MOST_LAG at most."""
    return bool(settings.REPLICA_URL) and watch().is_usable()


def seconds_behind() -> float:
    """How many seconds the replica may be behind the primary; infinite if nobody knows."""
    return watch().seconds_behind()


def describe() -> str:
    """How the replica is, in a line for those who watch the shop."""
    if is_usable():
        return f"The replica is read. It is {seconds_behind():.1f} s behind at most."
    return f"The replica isn't read: {watch().reason()}"


def find_problem() -> str | None:
    """Return why REPLICA_URL's server can't be a replica of our database, in words; None if it can.

    Raises OperationalError if our database can't be reached.
    """
    [ours] = _ask(DEFAULT_DB_ALIAS, IDENTITY)
    try:
        [theirs] = _ask(REPLICA, IDENTITY)
    except OperationalError as error:
        return f"REPLICA_URL's server can't be asked: {_first_line(error)}"
    if ours[:2] != theirs[:2]:
        return (
            "REPLICA_URL names a database that isn't a copy of DATABASE_URL's: it is on another "
            "server that was made by itself, or has another name."
        )
    if not theirs[2]:
        return NO_REPLICA
    return None


def note_failure(error: Exception) -> None:
    """Read from the primary until the replica has answered again."""
    watch().note_failure(error)


class Watch:
    """Looks after the replica for a process, in two threads: asking it may take forever."""

    def __init__(self) -> None:
        self._notes: deque[tuple[float, int]] = deque(maxlen=MOST_NOTES)
        """When the primary's log had come how far, by the monotonic clock; the oldest first."""
        self._up_to_date_at = -math.inf
        """The time of the last of these notes that the replica has reached."""
        self._reached = 0
        """How far the log had come then."""
        self._problem = NOT_ASKED
        self._was_usable: bool | None = None
        self._connections: weakref.WeakSet[BaseDatabaseWrapper] = weakref.WeakSet()

    def start(self) -> None:
        connection_created.connect(self._note_connection, weak=False)
        for work in (self._look_once, self._log_once):
            threading.Thread(
                target=_repeat, args=(work,), name=f"replica {work.__name__}", daemon=True
            ).start()

    def seconds_behind(self) -> float:
        return time.monotonic() - self._up_to_date_at

    def is_usable(self) -> bool:
        return self.seconds_behind() <= settings.REPLICA_MOST_LAG.total_seconds()

    def reason(self) -> str:
        """Why it isn't usable, in a sentence."""
        return self._problem or f"it is {self.seconds_behind():.1f} s behind."

    def note_failure(self, error: Exception) -> None:
        self._up_to_date_at = -math.inf
        self._problem = _first_line(error)

    def _look_once(self) -> None:
        """Note how far the primary's log has come, then how far the replica is."""
        began = time.monotonic()
        try:
            [(written,)] = _ask(DEFAULT_DB_ALIAS, "SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")
            self._notes.append((began, int(written)))
            [(is_replica, replayed)] = _ask(
                REPLICA,
                "SELECT pg_is_in_recovery(), pg_last_wal_replay_lsn() - '0/0'::pg_lsn",
            )
        except DatabaseError as error:  # what is known grows old by itself
            self._problem = _first_line(error)
            return
        if not is_replica or replayed is None:
            self._up_to_date_at = -math.inf
            self._problem = NO_REPLICA
            return
        self._problem = ""
        if replayed < self._reached:  # it was killed, and hasn't come as far again yet
            self._up_to_date_at = -math.inf
        while self._notes and self._notes[0][1] <= replayed:
            self._up_to_date_at, self._reached = self._notes.popleft()

    def _log_once(self) -> None:
        """Log that the replica isn't used any more, or again. End what still waits for it."""
        usable = self.is_usable()
        if usable == self._was_usable or self._problem == NOT_ASKED:
            return
        self._was_usable = usable
        if usable:
            log.info("%s", describe())
        else:
            log.warning("%s The primary answers.", describe())
            self._hang_up()

    def _note_connection(self, connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
        if connection.alias == REPLICA:
            self._connections.add(connection)

    def _hang_up(self) -> None:
        """Break all connections to the replica: whoever waits for a dead one asks the primary."""
        for wrapper in list(self._connections):
            with suppress(OSError, psycopg.Error, AttributeError):
                libpq = wrapper.connection.pgconn
                # It may also be of another family, which shutdown doesn't ask for.
                with socket.fromfd(libpq.socket, socket.AF_INET, socket.SOCK_STREAM) as same:
                    if libpq.socket >= 0:  # else the number may be another file's since
                        same.shutdown(socket.SHUT_RDWR)


_watch: Watch | None = None
_starting = threading.Lock()


def watch() -> Watch:
    """The watch of this process. The first call starts it: gunicorn's forks each have their own."""
    global _watch
    with _starting:
        if _watch is None:
            _watch = Watch()
            _watch.start()
        return _watch


def _repeat(work: Any) -> None:
    while True:
        try:
            work()
        except Exception:
            log.exception("Looking after the replica failed.")
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _ask(alias: str, sql: str) -> list[tuple[Any, ...]]:
    connection = connections[alias]
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())
    except (DatabaseError, InterfaceError):
        connection.close()
        raise


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
