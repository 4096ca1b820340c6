"""A product's row that another session keeps locked while an event loop runs."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

import psycopg
from django.db import connection

from inventory.models import Product

WAITING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


class Locked:
    """Locks the rows of these products until ``unlock``, or the end of the block."""

    def __init__(self, *products: Product) -> None:
        self._ids = [product.pk for product in products]

    def __enter__(self) -> Self:
        parameters = connection.get_connection_params()
        del parameters["cursor_factory"]
        del parameters["context"]
        self._locking = psycopg.connect(**parameters)
        self._looking = psycopg.connect(**parameters, autocommit=True)
        self._locking.execute(
            "SELECT FROM inventory_product WHERE id = ANY(%s) FOR UPDATE", [self._ids]
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._locking.close()
        self._looking.close()

    def unlock(self) -> None:
        self._locking.rollback()

    async def until_somebody_waits(self, number: int = 1) -> None:
        """Return as soon as so many sessions wait for a lock."""
        async with asyncio.timeout(60):
            while self._looking.execute(WAITING).fetchone() != (number,):
                await asyncio.sleep(0.01)
