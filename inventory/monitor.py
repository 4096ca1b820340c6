"""The law, checked: received = available + held + sold, for every product."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from django.db import connection

from inventory.law import Figures


@dataclass(frozen=True)
class StockState(Figures):
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
    low_stock_below: int = 0
    """Fewer available units than this are too few; 0 where nobody needs to know."""

    @property
    def unrecorded(self) -> int:
        """Units received, or gone, without a stock movement."""
        return self.received - self.recorded

    @property
    def keeps_law(self) -> bool:
        return not (self.drift or self.oversold or self.unrecorded)

    @property
    def is_low(self) -> bool:
        return self.low_stock_below > 0 and self.available < self.low_stock_below

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
        coalesce(moved.units, 0)::int,
        CASE WHEN product.is_active AND NOT product.is_exhibit
            THEN product.low_stock_threshold ELSE 0 END
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
NEEDS_A_LOOK = f"""
    ({BREAKS_LAW} OR product.stock < 0
    OR product.stock < product.low_stock_threshold AND product.is_active AND NOT product.is_exhibit
    OR EXISTS (SELECT 1 FROM inventory_stockalert AS alert
        WHERE alert.product_id = product.id AND alert.resolved_at IS NULL))
"""


def check(*, exhibits: bool = False) -> list[StockState]:
    """Return every product that breaks the law, by SKU; none is good news.

    ``exhibits``: those of flash sales, too. They are made to be broken.
    """
    products = BREAKS_LAW if exhibits else f"NOT product.is_exhibit AND {BREAKS_LAW}"
    return _states(STATES.format(rows="true", products=products), [])


def needing_a_look() -> list[StockState]:
    """Return every product with something that an alert is raised for, or was; exhibits, too."""
    return _states(STATES.format(rows="true", products=NEEDS_A_LOOK), [])


def states_of(product_ids: Collection[int]) -> list[StockState]:
    """Return the numbers of these products, of one snapshot."""
    ids = list(product_ids)
    of_products = STATES.format(rows="product_id = ANY(%s)", products="product.id = ANY(%s)")
    return _states(of_products, [ids] * 3)


def state_of(product_id: int) -> StockState:
    """Return the numbers of one product. Raises LookupError if there is none."""
    states = states_of([product_id])
    if not states:
        raise LookupError(f"There is no product {product_id}.")
    return states[0]


def _states(sql: str, parameters: list[list[int]]) -> list[StockState]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters or None)
        return [StockState(*row) for row in cursor.fetchall()]
