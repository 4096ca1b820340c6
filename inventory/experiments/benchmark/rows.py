"""The rows of a benchmark: the safe strategies, and two ceilings.

No purchase can be expected to be faster than a ceiling. ``insert only`` writes the same
reservation and guards nothing. ``read only`` fetches the product as a page does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import timedelta

from inventory import strategies
from inventory.database import connection
from inventory.models import Product, Reservation
from inventory.reservations import reserve
from inventory.strategies import Pay, Request, Strategy, record_hold

HOLD_FOR = timedelta(hours=1)  # no hold lapses during a benchmark
MOST_CONNECTIONS = 64  # of all buyers together; where there are more, they share a pool
INSERT_ONLY = "insert only"
READ_ONLY = "read only"


class Row(ABC):
    """An act that buyers repeat."""

    name: str
    guards: bool = True
    """Whether the row guards the stock at all."""
    is_ceiling: bool = False
    """Whether other rows are compared with it."""

    def connect(self, products: Sequence[Product]) -> None:
        """Prepare a thread before the start."""
        connection().ensure_connection()

    def disconnect(self) -> None:  # noqa: B027  (connections to the database are closed anyway)
        """Undo ``connect`` after a thread's end."""

    def most_threads(self, buyers: int, *, processes: int) -> int:
        """The number of threads for so many buyers.

        A ceiling has a connection for each: threads that wait for one only slow the others down.
        """
        return min(buyers, max(processes, MOST_CONNECTIONS)) if self.is_ceiling else buyers

    @abstractmethod
    def act(self, product: Product, buyer: str) -> None:
        """Act once for this buyer. Raises InsufficientStock if the buyer is refused."""


class Purchase(Row):
    """``reserve`` by a strategy, with a key, as the shop calls it."""

    def __init__(self, strategy: Strategy) -> None:
        self.name = strategy.slug
        self.strategy = strategy

    def act(self, product: Product, buyer: str) -> None:
        reserve(
            product,
            1,
            buyer=buyer,
            idempotency_key=buyer,
            hold_for=HOLD_FOR,
            strategy=self.strategy,
        )


class InsertOnly(Strategy):
    """A ceiling, not a real strategy: it writes the reservation and leaves the stock alone."""

    slug = "insert_only"
    label = "Insert only"
    is_safe = False
    how = "Writes the reservation, and doesn't look at the stock."
    when = "Never in a shop: it is a ceiling of the benchmark."

    def _take(self, request: Request, pay: Pay) -> Reservation:
        return record_hold(request)


class Insert(Purchase):
    guards = False
    is_ceiling = True

    def __init__(self) -> None:
        super().__init__(InsertOnly())
        self.name = INSERT_ONLY


class Read(Row):
    name = READ_ONLY
    is_ceiling = True

    def act(self, product: Product, buyer: str) -> None:
        Product.objects.get(pk=product.pk)


def candidates() -> list[str]:
    """The names of the rows that are compared with the ceilings."""
    return [each.slug for each in strategies.all_strategies() if each.is_safe]


def make_row(name: str) -> Row:
    """Return the row of that name. Raises UnknownStrategy."""
    if name == INSERT_ONLY:
        return Insert()
    if name == READ_ONLY:
        return Read()
    return Purchase(strategies.get(name))
