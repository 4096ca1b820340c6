"""The database of the stock: the one to which the project's routers send ``Product``.

Without routers it is ``default``. All tables of the app are in it, and the users to whom they
refer, for reading as for writing (``checks``).
"""

from __future__ import annotations

from django.apps import apps
from django.db import connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper


def alias() -> str:
    """The database's name in the setting DATABASES."""
    product = apps.get_model("inventory", "Product")  # Django imports this module before the models
    return router.db_for_write(product)


def connection() -> BaseDatabaseWrapper:
    """This thread's connection to it."""
    return connections[alias()]


def atomic() -> transaction.Atomic:
    """A transaction on it, or a savepoint inside of one."""
    return transaction.atomic(using=alias())
