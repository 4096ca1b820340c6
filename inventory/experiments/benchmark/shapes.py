"""The shapes of demand, and the exhibits made for them, which are removed after each round."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from inventory import monitor, stock
from inventory.database import atomic, connection
from inventory.models import Product
from inventory.reservations import reserve
from inventory.strategies.single_statement import SingleStatement

PLENTY = 100_000_000  # units, more than a round can take
HOT, SPREAD, SOLD_OUT, OPEN_LOOP = "hot", "spread", "sold out", "open loop"


@dataclass(frozen=True)
class Shape:
    """The buyers' demand: the number of products that they want, and how they come."""

    name: str
    description: str
    """The demand in a sentence."""
    products: int = 1
    is_sold_out: bool = False
    is_open: bool = False
    """Whether buyers come at a given rate, even while earlier ones still wait."""


SHAPES = {
    shape.name: shape
    for shape in (
        Shape(HOT, "all want one product"),
        Shape(SPREAD, "each wants one of a thousand products", products=1000),
        Shape(SOLD_OUT, "all want one product that is sold out", is_sold_out=True),
        Shape(OPEN_LOOP, "they come at a given rate, and want one product", is_open=True),
    )
}


@contextmanager
def exhibits(shape: Shape, name: str, **fields: Any) -> Iterator[list[Product]]:
    """Make products for this shape, for the length of the block; ``name`` is in their SKUs.

    ``fields`` override the usual values of the model's fields.
    """
    products: list[Product] = []
    try:
        with atomic():
            for number in range(shape.products):
                products.append(_exhibit(shape, f"{name}-{number}", **fields))
        yield products
    finally:
        _remove([product.pk for product in products])


def keeps_law(products: Sequence[Product]) -> bool:
    """Whether every unit of these products is accounted for."""
    ids = {product.pk for product in products}
    if len(ids) == 1:
        return monitor.state_of(*ids).keeps_law
    return not any(state.product_id in ids for state in monitor.check(exhibits=True))


def tidy_tables() -> None:
    """Remove dead rows and refresh the planner's statistics, so that all rounds begin alike.

    A plan made while a table was empty stays bad until the connection ends.
    """
    with connection().cursor() as cursor:
        cursor.execute("VACUUM (ANALYZE) inventory_product, inventory_reservation")


def _exhibit(shape: Shape, name: str, **fields: Any) -> Product:
    usual = {"name": name, "price": Decimal("9.99"), "is_exhibit": True}
    product = Product.objects.create(
        sku=f"BENCH-{name}", slug=f"bench-{name}", **{**usual, **fields}
    )
    stock.receive(product, 1 if shape.is_sold_out else PLENTY, note="benchmark")
    if shape.is_sold_out:
        reserve(product, 1, buyer="an earlier buyer", strategy=SingleStatement())
    return product


def _remove(ids: list[int]) -> None:
    """Remove the exhibits with all rows that refer to them.

    The statement of a killed process may still run, and a worker may raise an alert, since one row
    breaks the law. Both lock the product, so the lock keeps them from adding rows meanwhile.
    """
    with atomic(), connection().cursor() as cursor:
        cursor.execute("SELECT FROM inventory_product WHERE id = ANY(%s) FOR UPDATE", [ids])
        for table in ("reservation", "stockmovement", "stockalert"):
            cursor.execute(f"DELETE FROM inventory_{table} WHERE product_id = ANY(%s)", [ids])
        cursor.execute("DELETE FROM inventory_product WHERE id = ANY(%s)", [ids])
