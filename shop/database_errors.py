"""Errors of the database told apart: it is away, or it took too long."""

from __future__ import annotations

import errno

import psycopg
from django.db import Error, InterfaceError, OperationalError, connection
from procrastinate.exceptions import ConnectorException

from inventory.postgres_errors import sqlstate

# PostgreSQL's error codes, or their beginnings. PgBouncer uses 08, too.
LOST = ("08", "57P01", "57P02", "57P03", "57P05")  # connection lost; server starts or stops
FULL = ("53",)  # too many connections, disk or memory full
READ_ONLY = ("25006",)  # a standby: another server takes the writes now
DISK_FULL = "53100"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # of this machine's own disks
TOO_SLOW = ("55P03", "57014", "25P03", "25P04")  # a timeout: of a lock, statement, transaction


def is_outage(error: BaseException | None) -> bool:
    """Whether the error says that the database can't be reached or used at the moment.

    Takes errors of Django and of psycopg, and those that the queue of jobs makes of them.
    """
    error = _unwrapped(error)
    if not isinstance(error, Error | psycopg.Error):
        return False
    code = sqlstate(error)
    if code is not None:
        return code.startswith(LOST + FULL + READ_ONLY)
    if isinstance(error, OperationalError | psycopg.OperationalError):
        return True  # not sent by the server: libpq could not reach it
    return isinstance(error, InterfaceError) and _is_disconnected()


def causes(error: BaseException) -> list[BaseException]:
    """The error, the error behind it, and so on; each once.

    procrastinate raises an error from within its own consequence: each is then behind the other,
    and its function of the same name never ends.
    """
    found: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and not any(cause is each for each in found):
        found.append(cause)
        cause = cause.__cause__ or cause.__context__
    return found


def is_full_disk(error: BaseException | None) -> bool:
    """Whether the database's disk is full, or one of this machine, such as the one for uploads."""
    if isinstance(error, OSError):
        return error.errno in NO_ROOM
    return sqlstate(error) == DISK_FULL


def is_timeout(error: BaseException | None) -> bool:
    """Whether the database gave up waiting: for a lock, a statement or an idle transaction."""
    code = sqlstate(_unwrapped(error))
    return code is not None and code.startswith(TOO_SLOW)


def _unwrapped(error: BaseException | None) -> BaseException | None:
    """The database's own error, if a job could not be queued because of it."""
    return error.__cause__ if isinstance(error, ConnectorException) else error


def _is_disconnected() -> bool:
    return connection.connection is None or bool(connection.connection.closed)
