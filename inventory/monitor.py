"""The law, checked: received = available + held + sold, for every product."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import connection


@dataclass(frozen=True)
class StockState:
    """What one snapshot shows of a product, in units."""

    product_id: int
    sku: str
    is_exhibit: bool
    received: int
    available: int
    held: int
    sold: int
    recorded: int
    """The sum of the product's stock movements, which ``received`` must be."""

    @property
    def oversold(self) -> int:
        """Units promised that do not exist."""
        return max(0, self.held + self.sold - self.received)

    @property
    def drift(self) -> int:
        """Not zero: an update was lost, or units leaked."""
        return self.available + self.held + self.sold - self.received

    @property
    def unrecorded(self) -> int:
        """Units received, or gone, without a stock movement."""
        return self.received - self.recorded

    @property
    def keeps_law(self) -> bool:
        return not (self.drift or self.oversold or self.unrecorded)

    def __str__(self) -> str:
        numbers = (
            f"received {self.received}, available {self.available}, held {self.held}, "
            f"sold {self.sold}: drift {self.drift:+d}, oversold {self.oversold}"
        )
        if self.unrecorded:
            numbers += f", {self.unrecorded:+d} received without a movement"
        return f"{self.sku}: {numbers}"


# One statement, so one snapshot: no sale is seen in one number and not in the other. Each table
# is read once; {products} and {rows} narrow both down to one product, or to none.
STATES = """
    SELECT product.id, product.sku, product.is_exhibit, product.units_received, product.stock,
        coalesce(reserved.held, 0)::int, coalesce(reserved.sold, 0)::int,
        coalesce(moved.units, 0)::int
    FROM inventory_product AS product
    LEFT JOIN (
        SELECT product_id,
            sum(quantity) FILTER (WHERE status = 'HELD') AS held,
            sum(quantity - returned) FILTER (WHERE status = 'SOLD') AS sold
        FROM inventory_reservation
        WHERE status IN ('HELD', 'SOLD') AND {rows}
        GROUP BY product_id
    ) AS reserved ON reserved.product_id = product.id
    LEFT JOIN (
        SELECT product_id, sum(units) AS units
        FROM inventory_stockmovement WHERE {rows} GROUP BY product_id
    ) AS moved ON moved.product_id = product.id
    WHERE {products}
    ORDER BY product.sku
"""
BREAKS_LAW = """
    (product.stock + coalesce(reserved.held, 0) + coalesce(reserved.sold, 0)
        <> product.units_received
    OR coalesce(reserved.held, 0) + coalesce(reserved.sold, 0) > product.units_received
    OR coalesce(moved.units, 0) <> product.units_received)
"""


def check(*, exhibits: bool = False) -> list[StockState]:
    """Return every product that breaks the law, by SKU; none is good news.

    ``exhibits``: those of flash sales, too. They are made to be broken.
    """
    products = BREAKS_LAW if exhibits else f"NOT product.is_exhibit AND {BREAKS_LAW}"
    return _states(STATES.format(rows="true", products=products), [])


def state_of(product_id: int) -> StockState:
    """Return the numbers of one product. Raises LookupError if there is none."""
    of_product = STATES.format(rows="product_id = %s", products="product.id = %s")
    states = _states(of_product, [product_id] * 3)
    if not states:
        raise LookupError(f"There is no product {product_id}.")
    return states[0]


def _states(sql: str, parameters: list[int]) -> list[StockState]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters or None)
        return [StockState(*row) for row in cursor.fetchall()]
