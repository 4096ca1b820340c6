"""How long the database may keep a web request waiting: for a lock, a statement, a transaction.

Only processes that serve the web have these limits. The worker, commands and flash sales may
take their time.

Behind a pooler of transactions a session's settings don't last, and would reach other programs.
There the pooler sets them, by its ``connect_query`` (see shop/deployment/README.md).

They also switch PostgreSQL's compiler of queries off. It compiles, for a tenth of a second, what
seems to take long. In a shop with very many holds that is each page's query, which reads few rows.
"""

from __future__ import annotations

import functools
import logging
import os
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

log = logging.getLogger(__name__)

SECONDS_TO_CONNECT = "5"

# One statement for each new connection. Behind a pooler the server's process isn't the one that
# was named when we connected: then this sets nothing.
SET_TIMEOUTS = """
    SELECT set_config('lock_timeout', %s, false), set_config('statement_timeout', %s, false),
        set_config('idle_in_transaction_session_timeout', %s, false),
        set_config('jit', 'off', false)
    WHERE pg_backend_pid() = %s
"""
MISSING = (
    "The connections to the database go through a pooler, and no lock_timeout is set: a row that "
    "somebody keeps locked can stop the shop."
)
HOW_TO_SET = "Give the pooler a connect_query that sets them, as in shop/deployment/README.md."


def limit_new_connections() -> None:
    """Set the timeouts on each connection that this process opens from now on.

    Limit connecting, too: a server that never answers would keep a thread for minutes.
    """
    os.environ.setdefault("PGCONNECT_TIMEOUT", SECONDS_TO_CONNECT)  # libpq's own variable
    connection_created.connect(_set_timeouts, dispatch_uid="shop.deployment.database_timeouts")


def pooler_lacks_them(connection: BaseDatabaseWrapper) -> bool:
    """Whether a pooler is in between, and nothing limits how long we wait for a lock."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_backend_pid() != %s AND current_setting('lock_timeout') = '0'",
            [connection.connection.info.backend_pid],
        )
        [(lacks,)] = cursor.fetchall()
    return bool(lacks)


def _set_timeouts(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            SET_TIMEOUTS,
            [
                _milliseconds(settings.LOCK_TIMEOUT),
                _milliseconds(settings.STATEMENT_TIMEOUT),
                _milliseconds(settings.IDLE_TRANSACTION_TIMEOUT),
                connection.connection.info.backend_pid,
            ],
        )
        is_direct = cursor.fetchone() is not None
    if not is_direct and pooler_lacks_them(connection):
        _warn_once()


@functools.cache
def _warn_once() -> None:
    log.warning("%s %s", MISSING, HOW_TO_SET)


def _milliseconds(time: timedelta) -> str:
    return str(time // timedelta(milliseconds=1))
