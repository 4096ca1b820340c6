"""The index of the search for products: trigrams of names, descriptions and SKUs.

It needs PostgreSQL's extension pg_trgm, which not every server has: the package that brings the
shop's private one hasn't. So no migration makes the index, but the end of each ``migrate`` does, if
the extension can be had. Without it the search reads all products, and finds the same.
"""

from __future__ import annotations

from typing import Any

from django.db import ProgrammingError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from inventory.postgres_errors import sqlstate
from shop.deployment.lock_waits import drop_broken_index

NAME = "shop_product_words"
# Written as ``icontains`` asks (catalogue.search).
MAKE = f"""
    CREATE INDEX CONCURRENTLY IF NOT EXISTS {NAME} ON inventory_product USING gin (
        upper(name::text) gin_trgm_ops,
        upper(description) gin_trgm_ops,
        upper(sku::text) gin_trgm_ops
    )
"""
STATE = """
    SELECT to_regclass(%s) IS NOT NULL,
        (SELECT reltuples FROM pg_class WHERE oid = 'inventory_product'::regclass)
"""
INSUFFICIENT_PRIVILEGE = "42501"
MANY = 10_000  # products; among fewer, nobody notices


def make(using: str, **kwargs: Any) -> None:
    """Make the index, if the server can have it; buyers go on meanwhile."""
    connection = connections[using]
    if connection.in_atomic_block or not _has_table(connection) or not _has_extension(connection):
        return
    drop_broken_index(connection, NAME)
    with connection.cursor() as cursor:
        cursor.execute(MAKE)


def is_missed(using: str) -> bool:
    """Whether the index is missing, and there are so many products that buyers notice."""
    connection = connections[using]
    if not _has_table(connection):
        return False
    with connection.cursor() as cursor:
        cursor.execute(STATE, [NAME])
        is_there, products = cursor.fetchone()
    return not is_there and products > MANY


def _has_table(connection: BaseDatabaseWrapper) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('inventory_product') IS NOT NULL")
        (is_there,) = cursor.fetchone()
    return bool(is_there)


def _has_extension(connection: BaseDatabaseWrapper) -> bool:
    """Whether the database has pg_trgm, maybe from now on."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'pg_trgm'")
        if cursor.fetchone() is None:
            return False
        try:
            cursor.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
        except ProgrammingError as error:
            if sqlstate(error) != INSUFFICIENT_PRIVILEGE:
                raise
            return False
    return True
