"""One line for each product and price, however many reservations are behind it.

Reservations stay as they are: each has a time of its own. Only what is shown is put together.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from shop.models import OrderLine

Item = TypeVar("Item")


def group(items: Iterable[Item], key: Callable[[Item], Hashable]) -> list[list[Item]]:
    """The items with the same ``key`` together; the first of each keeps its place.

    >>> grouped(["a1", "b1", "a2"], lambda item: item[0])
    [['a1', 'a2'], ['b1']]
    """
    groups: dict[Hashable, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())


@dataclass(frozen=True)
class GroupedLine:
    """All units of an order that are of one product and have one price."""

    sku: str
    name: str
    unit_price: Decimal
    """In the order's currency."""
    quantity: int
    """Units ordered."""
    refunded: int
    """Units whose price was given back."""

    @property
    def total(self) -> Decimal:
        return self.unit_price * self.quantity

    @property
    def left(self) -> int:
        """Units not refunded."""
        return self.quantity - self.refunded


def grouped_order_lines(lines: Iterable[OrderLine]) -> list[GroupedLine]:
    """An order's lines as its buyer reads them, in the order in which they were placed."""
    return [
        GroupedLine(
            sku=group[0].sku,
            name=group[0].name,
            unit_price=group[0].unit_price,
            quantity=sum(line.quantity for line in group),
            refunded=sum(line.refunded for line in group),
        )
        for group in group(lines, lambda line: (line.sku, line.name, line.unit_price))
    ]
