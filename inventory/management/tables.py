"""The database's tables: checked before a command needs them, and made if that is allowed."""

from __future__ import annotations

import time
from collections.abc import Callable

import pglock
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db.migrations.executor import MigrationExecutor

from inventory.database import alias, connection

WriteLine = Callable[[str], object]


def ensure(write_line: WriteLine, app: str = "inventory") -> None:
    """Make sure that the tables of ``app`` are there, and as the code expects them.

    If the project lets commands migrate (INVENTORY_COMMANDS_MIGRATE, for a database of its own),
    this makes missing tables and writes a line about it. Otherwise it raises
    CommandError, which names the command to run.
    """
    lacking = missing_in_words(app)
    if not lacking:
        return
    if not may_commands_migrate():
        raise CommandError(f"{lacking} Run this first: python manage.py migrate")
    write_line(f"{lacking} They are made now, as by manage.py migrate.")
    migrate()


def migrate() -> None:
    """Make the tables, as ``migrate`` does."""
    if not may_commands_migrate():
        _call_migrate()
        return
    while not _migrate_unless_others_do():
        time.sleep(0.1)


def _migrate_unless_others_do() -> bool:
    """Migrate, and return True; or return False at once, as another command does so.

    Other commands may start at the same time. None waits in a statement: an index that is made
    concurrently would wait for the end of that statement, which would wait for the index.
    """
    with pglock.advisory("inventory.tables", using=alias(), timeout=0) as is_ours:
        if is_ours:
            _call_migrate()
    return bool(is_ours)


def _call_migrate() -> None:
    call_command("migrate", database=alias(), verbosity=0, interactive=False)


def may_commands_migrate() -> bool:
    return bool(getattr(settings, "INVENTORY_COMMANDS_MIGRATE", False))


def missing_in_words(app: str) -> str:
    """A sentence on the tables that ``app`` lacks; empty if it lacks none."""
    executor = MigrationExecutor(connection())
    targets = executor.loader.graph.leaf_nodes(app)
    plan = executor.migration_plan(targets)
    if not plan:
        return ""
    if not executor.loader.applied_migrations:
        return "The database has no tables yet."
    return f"The database lacks {len(plan)} of the migrations."
