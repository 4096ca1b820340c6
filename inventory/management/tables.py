"""The database's tables: asked for before a command needs them, or made on the spot."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import pglock
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db.migrations.executor import MigrationExecutor

from inventory.database import alias, connection

Tell = Callable[[str], object]


def ensure(tell: Tell, app: str = "inventory") -> None:
    """See to it that the tables of ``app`` are there, and as the code expects them.

    Where the project says that its commands may migrate (INVENTORY_COMMANDS_MIGRATE, for a database
    that belongs to nobody else), what is missing is made, and ``tell`` called with a line on it.
    Else raises CommandError, which names the command that does it.
    """
    lacking = missing(app)
    if not lacking:
        return
    if not may_migrate():
        raise CommandError(f"{lacking} Run this first: python manage.py migrate")
    tell(f"{lacking} They are made now, as by manage.py migrate.")
    make()


def make() -> None:
    """Make the tables, as ``migrate`` does."""
    # Others may be starting on it, too. A database of many is migrated by whoever runs it.
    lock = pglock.advisory("inventory.tables", using=alias())
    with lock if may_migrate() else nullcontext():
        call_command("migrate", database=alias(), verbosity=0, interactive=False)


def may_migrate() -> bool:
    return bool(getattr(settings, "INVENTORY_COMMANDS_MIGRATE", False))


def missing(app: str) -> str:
    """What the database lacks for ``app``, in a sentence; empty if nothing."""
    executor = MigrationExecutor(connection())
    targets = executor.loader.graph.leaf_nodes(app)
    plan = executor.migration_plan(targets)
    if not plan:
        return ""
    if not executor.loader.applied_migrations:
        return "The database has no tables yet."
    return f"The database lacks {len(plan)} of the migrations."
