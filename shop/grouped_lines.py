"""One line for each product and price, however many reservations are behind it.

The reservations stay separate, each with a time of its own. They are put together only for
display.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from shop.models import OrderLine

Item = TypeVar("Item")


def group_by(items: Iterable[Item], key: Callable[[Item], Hashable]) -> list[list[Item]]:
    """Group the items by their ``key``, in the order in which the groups begin.

    >>> group_by(["a1", "b1", "a2"], lambda item: item[0])
    [['a1', 'a2'], ['b1']]
    """
    groups: dict[Hashable, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())


@dataclass(frozen=True)
class GroupedLine:
    """All units of one product at one price in an order."""

    sku: str
    name: str
    unit_price: Decimal
    """In the order's currency."""
    quantity: int
    """Units ordered."""
    refunded: int
    """Units refunded."""

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
        for group in group_by(lines, lambda line: (line.sku, line.name, line.unit_price))
    ]
