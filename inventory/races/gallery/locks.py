"""The plainest mend: one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import connection, models, transaction


def in_turn(model: type[models.Model], change: Callable[[], Any]) -> Callable[[], Any]:
    """The change, in a transaction that waits for those of others to this table.

    It must begin with the lock: rows that were read before may have changed when it is granted.
    Readers don't wait. Where all changes concern one row, as a list's owner or a tree's root, a
    lock on that row keeps fewer waiting.
    """

    def change_alone() -> Any:
        with transaction.atomic(), connection.cursor() as cursor:
            table = connection.ops.quote_name(model._meta.db_table)
            cursor.execute(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")
            return change()

    return change_alone
