"""A product in a shop's database, read in SQL: another checkout may have other models."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import LiteralString

import psycopg

FIGURES: LiteralString = """
    SELECT product.units_received - product.stock,
        (SELECT coalesce(sum(quantity - returned), 0)::bigint FROM inventory_reservation
            WHERE product_id = product.id AND status IN ('HELD', 'SOLD')),
        (SELECT count(*) FROM shop_order WHERE state = 'PAID')
    FROM inventory_product AS product WHERE slug = %s
"""


@dataclass(frozen=True)
class Figures:
    """One snapshot of a product."""

    taken: int
    """Units that left the stock."""
    promised: int
    """Units in the rows of its holds and sales."""
    paid_orders: int
    """Of all products."""

    @property
    def keeps_law(self) -> bool:
        return self.taken == self.promised


class Books:
    """The database of a shop."""

    def __init__(self, url: str) -> None:
        self.url = url.replace("postgres:", "postgresql:", 1)

    def figures(self, slug: str) -> Figures:
        with closing(psycopg.connect(self.url, autocommit=True)) as connection:
            row = connection.execute(FIGURES, [slug]).fetchone()
        assert row is not None
        return Figures(*row)

    def delete_dependents(self) -> None:
        """Delete all that refers to products and holds, for a scratch database: no shop's own."""
        self._execute("TRUNCATE shop_order, shop_refusal, procrastinate_jobs CASCADE")

    def release_holds(self, slug: str) -> None:
        """Release the product's holds, so that its buyers have nothing in the next turn."""
        self._execute(
            "WITH released AS (UPDATE inventory_reservation AS hold"
            " SET status = 'RELEASED', decided_at = now() FROM inventory_product AS product"
            " WHERE hold.status = 'HELD' AND product.id = product_id AND product.slug = %s"
            " RETURNING product_id, hold.quantity)"
            " UPDATE inventory_product SET stock = stock + units, version = version + 1"
            " FROM (SELECT product_id, sum(quantity) AS units FROM released GROUP BY 1) AS back"
            " WHERE id = product_id",
            slug,
        )

    def delete_holds(self, slug: str) -> None:
        """Delete the product's holds, so that its buyers' baskets are empty in the next round."""
        self._execute(
            "DELETE FROM inventory_reservation USING inventory_product AS product"
            " WHERE product.id = product_id AND product.slug = %s",
            slug,
        )

    def tidy(self) -> None:
        """Remove dead rows and refresh the planner's statistics."""
        self._execute("VACUUM (ANALYZE) inventory_product, inventory_reservation")

    def _execute(self, sql: LiteralString, *parameters: object) -> None:
        with closing(psycopg.connect(self.url, autocommit=True)) as connection:
            connection.execute(sql, parameters or None)
