"""Reads on one snapshot: of a product, of a buyer, and of the reason for a refusal.

Nothing here writes or locks. Time is always the database's, as in ``holds``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal

from django.db.backends.utils import CursorWrapper
from django.db.models import F, Sum

from inventory.database import Question, ask, connection
from inventory.exceptions import (
    BuyerLimitExceeded,
    DuplicateKey,
    InsufficientStock,
    NotForSale,
)
from inventory.holds import Request
from inventory.law import HAS_LAPSED, units_in_holds_in_sql
from inventory.models import Product, Reservation

Refusal = NotForSale | InsufficientStock | DuplicateKey


def refusal(request: Request) -> Refusal:
    """The exception that says why nothing was taken.

    It is read from one snapshot, and so is true at that instant. Its available units are stock
    plus lapsed holds. If they are enough, the caller takes the lapsed holds back and tries again.
    It is DuplicateKey if the first request with this key has a reservation, since that may be
    the one in the second's way.
    """
    now = available_now(request.product_id, request.quantity, [request.idempotency_key])
    return refusal_on(now, request)


def refusal_on(now: Available, request: Request) -> Refusal:
    """The exception that this snapshot calls for."""
    if request.idempotency_key in now.keys:
        return DuplicateKey("There is a reservation with this key.")
    if not now.is_active:
        return NotForSale(request.sku)
    return InsufficientStock(request.sku, request.quantity, now.units)


def check_buyer_limit(request: Request) -> None:
    """Raise BuyerLimitExceeded if the buyer would get more than ``max_per_buyer``.

    It is exact only if the buyer's other requests for the product wait meanwhile.
    """
    if request.max_per_buyer is None:
        return
    already = units_of_buyers(request.product_id, [request.buyer]).get(request.buyer, 0)
    if already + request.quantity > request.max_per_buyer:
        raise BuyerLimitExceeded(request.sku, request.max_per_buyer, already)


@dataclass(frozen=True)
class Available:
    """A product's units on one snapshot."""

    is_active: bool
    stock: int
    lapsed: int
    """Units in lapsed holds, which are as good as stock; counted only as far as they are needed."""
    keys: Collection[str]
    """Idempotency keys of the requests that belong to a reservation already."""

    @property
    def units(self) -> int:
        """Units that any buyer may take now: all of them, or at least as many as were needed."""
        return self.stock + self.lapsed

    def is_enough_for(self, request: Request) -> bool:
        return self.is_active and request.quantity <= self.units


LAPSED_UNITS = units_in_holds_in_sql("product.id, %(needed)s::bigint - stock", HAS_LAPSED)


def available_now(product_id: int, needed: int, keys: Iterable[str | None] = ()) -> Available:
    """Read the product, its lapsed holds, and which of these idempotency keys are in use.

    ``needed`` is the largest number of units that anybody asks for. Lapsed units beyond it aren't
    counted: a sale may leave a million lapsed holds behind, and each refusal comes here. One
    statement reads all, so it is one snapshot. Raises Product.DoesNotExist.
    """
    with connection().cursor() as cursor:
        cursor.execute(
            f"""
            SELECT is_active, stock, ({LAPSED_UNITS}), ARRAY(
                SELECT idempotency_key FROM inventory_reservation
                WHERE idempotency_key = ANY(%(keys)s::text[])
            )
            FROM inventory_product AS product WHERE id = %(product_id)s
            """,
            {
                "needed": needed,
                "keys": _keys_to_find(keys),
                "product_id": product_id,
            },
        )
        row = cursor.fetchone()
    if row is None:
        raise Product.DoesNotExist(f"There is no product {product_id}.")
    return Available(*row)


def products_by_id(ids: Collection[int]) -> dict[int, Product]:
    """Read these products, by primary key.

    In SQL, since each page of a basket calls it: Django took longer to write the statement than
    PostgreSQL to answer it (measured).
    """
    if not ids:
        return {}
    found = Product.objects.raw("SELECT * FROM inventory_product WHERE id = ANY(%s)", [list(ids)])
    return {product.pk: product for product in found}


def units_of_buyers(product_id: int, buyers: Collection[str]) -> dict[str, int]:
    """Units of a product that these buyers have, as ``ReservationQuerySet.units`` counts them."""
    rows = (
        Reservation.objects.counted()
        .filter(buyer__in=buyers)
        .only_of(product_id)
        .order_by()
        .values_list("buyer")
        .annotate(units=Sum(F("quantity") - F("returned") - F("written_off")))
    )
    return dict(rows)


@dataclass(frozen=True)
class HoldsOfBuyer:
    """A buyer's holds on one snapshot."""

    quantities: list[int]
    """Units of each hold that is alive."""
    value: Decimal
    """The price of all these units, in the shop's currency."""
    has_key: bool
    """Whether a reservation of the buyer has the idempotency key that was asked for."""

    def with_hold(self, quantity: int, unit_price: Decimal) -> HoldsOfBuyer:
        """The same with one hold more."""
        return replace(
            self,
            quantities=[*self.quantities, quantity],
            value=self.value + quantity * unit_price,
        )


def holds_of_buyer(buyer: str, idempotency_key: str | None = None) -> HoldsOfBuyer:
    """Read the buyer's holds (as ``ReservationQuerySet.alive``), and look for the key."""
    return holds_of_buyers({buyer: idempotency_key})[buyer]


def holds_of_buyers(keys: Mapping[str, str | None]) -> dict[str, HoldsOfBuyer]:
    """Read the holds of several buyers, and look for each one's idempotency key (None: no key)."""
    return ask(question_of_holds(keys))


HOLDS_OF_BUYERS = """
    SELECT buyer, quantity, unit_price, NULL
    FROM inventory_reservation
    WHERE buyer = ANY(%(buyers)s::text[]) AND status IN ('HELD', 'SOLD')
        AND CASE WHEN status = 'HELD' THEN expires_at > statement_timestamp() ELSE false END
    UNION ALL
    SELECT buyer, 0, 0, idempotency_key
    FROM inventory_reservation WHERE idempotency_key = ANY(%(keys)s::text[])
"""


def question_of_holds(keys: Mapping[str, str | None]) -> Question[dict[str, HoldsOfBuyer]]:
    """The statement of ``holds_of_buyers``, to be sent together with others.

    In SQL, since each request to reserve asks it twice: Django took ten times as long to write
    the statement as PostgreSQL to answer it (measured).
    """

    def read(cursor: CursorWrapper) -> dict[str, HoldsOfBuyer]:
        found = {buyer: HoldsOfBuyer([], Decimal(0), has_key=False) for buyer in keys}
        for buyer, quantity, unit_price, key in cursor.fetchall():
            if key is None:
                found[buyer] = found[buyer].with_hold(quantity, unit_price)
            elif keys.get(buyer) == key:
                found[buyer] = replace(found[buyer], has_key=True)
        return found

    return Question(
        HOLDS_OF_BUYERS,
        {"buyers": list(keys), "keys": _keys_to_find(keys.values())},
        read,
    )


def _keys_to_find(keys: Iterable[str | None]) -> list[str]:
    """The keys, without None, for a comparison with ANY; never an empty list.

    For an empty one PostgreSQL chooses any partial index, and reads all of it to find nothing.
    """
    return [key for key in keys if key is not None] or [""]
