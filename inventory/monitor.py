"""The law (``inventory.law``), checked for every product."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields

from inventory.database import connection
from inventory.law import BREAKS_LAW, Figures, figures_in_sql


@dataclass(frozen=True)
class StockState(Figures):
    """A product's state on one snapshot, in units."""

    product_id: int
    sku: str
    is_exhibit: bool
    received: int
    available: int
    held: int
    sold: int
    recorded: int
    low_stock_below: int = 0
    """Raise LOW_STOCK below this number of available units; 0: never."""

    @property
    def is_low(self) -> bool:
        return self.low_stock_below > 0 and self.available < self.low_stock_below

    def __str__(self) -> str:
        return f"{self.sku}: {self.in_words()}"


@dataclass(frozen=True)
class StockSums:
    """Units of all products together, without exhibits."""

    available: int
    held: int
    sold: int
    oversold: int
    drift: int
    """The sum of the sizes: +1 and -1 are two units of drift."""


STATES = """
    SELECT id, sku, is_exhibit, received, available, held, sold, recorded,
        CASE WHEN is_active AND NOT is_exhibit THEN low_stock_threshold ELSE 0 END
    FROM ({figures}) AS product WHERE {which} ORDER BY sku
"""
# Each row has the sums. There is a row without a state if no product needs a look.
SUMS_AND_STATES = """
    WITH product AS MATERIALIZED (
        SELECT id, sku, is_exhibit, is_active, low_stock_threshold,
            received, available, held, sold, recorded
        FROM ({figures}) AS with_all_columns
    ), sums AS (
        SELECT coalesce(sum(available), 0)::bigint, coalesce(sum(held), 0)::bigint,
            coalesce(sum(sold), 0)::bigint,
            coalesce(sum(greatest(held + sold - received, 0)), 0)::bigint,
            coalesce(sum(abs(available + held + sold - received)), 0)::bigint
        FROM product WHERE NOT is_exhibit
    )
    SELECT sums.*, state.* FROM sums LEFT JOIN ({states}) AS state ON true ORDER BY state.sku
"""
NEEDS_A_LOOK = f"""
    ({BREAKS_LAW} OR available < 0
    OR available < low_stock_threshold AND is_active AND NOT is_exhibit
    OR EXISTS (SELECT 1 FROM inventory_stockalert AS alert
        WHERE alert.product_id = product.id AND alert.resolved_at IS NULL))
"""


def check(*, exhibits: bool = False) -> list[StockState]:
    """Return every product that breaks the law, by SKU.

    ``exhibits``: with the products of flash sales, which are made to be broken.
    """
    which = BREAKS_LAW if exhibits else f"NOT is_exhibit AND {BREAKS_LAW}"
    return _states(STATES.format(figures=figures_in_sql(), which=which))


def needing_a_look() -> tuple[list[StockState], StockSums]:
    """Return every product, exhibits too, that calls for an alert or has an open one; and the sums.

    They are from one snapshot.
    """
    states = STATES.format(figures="SELECT * FROM product", which=NEEDS_A_LOOK)
    with connection().cursor() as cursor:
        cursor.execute(SUMS_AND_STATES.format(figures=figures_in_sql(), states=states))
        rows = cursor.fetchall()
    number = len(fields(StockSums))
    found = [StockState(*row[number:]) for row in rows if row[number] is not None]
    return found, StockSums(*rows[0][:number])


def states_of(product_ids: Collection[int]) -> list[StockState]:
    """Return the states of these products, on one snapshot."""
    figures = figures_in_sql("= ANY(%(ids)s)")
    return _states(STATES.format(figures=figures, which="true"), {"ids": list(product_ids)})


def state_of(product_id: int) -> StockState:
    """Return the state of one product. Raises LookupError if it does not exist."""
    states = states_of([product_id])
    if not states:
        raise LookupError(f"There is no product {product_id}.")
    return states[0]


def _states(sql: str, parameters: dict[str, list[int]] | None = None) -> list[StockState]:
    with connection().cursor() as cursor:
        cursor.execute(sql, parameters)
        return [StockState(*row) for row in cursor.fetchall()]
