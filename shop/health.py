"""The check whether the shop can serve customers."""

from __future__ import annotations

import logging
from datetime import timedelta

from django.db import DatabaseError, ProgrammingError, connection
from django.db.migrations import Migration
from django.db.migrations.executor import MigrationExecutor

from shop.database_errors import is_outage

log = logging.getLogger(__name__)

# A worker that runs gives a sign of life every ten seconds.
SEEN_LATELY = timedelta(minutes=2)
NO_WORKER_SEEN = "No worker was seen in the last 2 minutes."

# The migrations in the database, in one text, when last none of ours was missing. Ours don't
# change while the process runs. So only another text needs the long look through all of them.
_known_complete: set[str] = set()


def find_problem() -> str | None:
    """Return why the shop can't serve customers, in words for everybody; None if it can."""
    try:
        missing = _missing_migrations_at_last()
    except DatabaseError:
        log.exception("The database does not answer.")
        return "The database does not answer."
    if missing:
        names = ", ".join(f"{migration.app_label}.{migration.name}" for migration in missing)
        return f"Migrations are missing, run manage.py migrate: {names}"
    return None


def seconds_since_worker_seen() -> int | None:
    """How long ago a worker gave a sign of life, by the database's clock; None if not lately."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT extract(epoch FROM statement_timestamp() - max(last_heartbeat))"
            " FROM procrastinate_workers"
        )
        [(seconds,)] = cursor.fetchall()
    if seconds is None or seconds > SEEN_LATELY.total_seconds():
        return None
    return max(0, int(seconds))


def _missing_migrations_at_last() -> list[Migration]:
    """The missing migrations; over a new connection if the server has closed the old one."""
    try:
        return _missing_migrations()
    except DatabaseError as error:
        if not is_outage(error) or connection.in_atomic_block:
            raise
    connection.close()
    return _missing_migrations()


def _missing_migrations() -> list[Migration]:
    applied = _applied_migrations()
    if applied in _known_complete:
        return []
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if not plan and applied is not None:
        _known_complete.clear()
        _known_complete.add(applied)
    return [migration for migration, _ in plan]


def _applied_migrations() -> str | None:
    """The migrations in the database, in one text; None if it has no table of them."""
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT md5(string_agg(app || ' ' || name, ',' ORDER BY id)) FROM django_migrations"
            )
            text: str | None = cursor.fetchone()[0]
            return text
    except ProgrammingError:
        return None
