"""The statements that strategies share: record a hold, take lapsed ones back, tell why not.

Time is always the database's. ``statement_timestamp()`` rather than ``now()``: the latter is
the start of the transaction, which may have waited long for a lock.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from django.db import DEFAULT_DB_ALIAS, connection
from django.db.models import BooleanField, Case, F, Sum, Value, When

from inventory.exceptions import (
    BuyerLimitExceeded,
    DuplicateKey,
    InsufficientStock,
    NotForSale,
)
from inventory.models import Product, Reservation

TAKE_BACK_AT_ONCE = 1000  # lapsed holds a statement takes back at the most


@dataclass(frozen=True)
class Request:
    """What a buyer asks for: ``quantity`` units of a product, held for ``hold_for``."""

    product_id: int
    sku: str
    quantity: int
    buyer: str
    hold_for: timedelta
    strategy: str
    idempotency_key: str | None = None
    max_per_buyer: int | None = None
    reservation_id: uuid.UUID = field(default_factory=uuid.uuid4)


# The columns of a new hold, as a SELECT from the product's row: price and clock are the
# database's. Used by itself (record_hold) and after a WITH (single_statement).
HOLD_COLUMNS = """
    id, product_id, quantity, returned, unit_price, status, buyer,
    expires_at, idempotency_key, strategy, created_at
"""
HOLD_VALUES = """
    %(id)s::uuid, product.id, %(quantity)s::int, 0, product.price, 'HELD', %(buyer)s,
    statement_timestamp() + %(hold_for)s::interval, %(idempotency_key)s, %(strategy)s,
    statement_timestamp()
"""
INSERT_HOLD = f"""
    INSERT INTO inventory_reservation ({HOLD_COLUMNS})
    SELECT {HOLD_VALUES} FROM inventory_product AS product WHERE product.id = %(product_id)s
    RETURNING *
"""


def hold_parameters(request: Request) -> dict[str, object]:
    """The values of HOLD_VALUES."""
    return {
        "id": request.reservation_id,
        "product_id": request.product_id,
        "quantity": request.quantity,
        "buyer": request.buyer,
        "hold_for": request.hold_for,
        "idempotency_key": request.idempotency_key,
        "strategy": request.strategy,
    }


def record_hold(request: Request) -> Reservation:
    """Insert the reservation of units that were taken in the same transaction."""
    [reservation] = Reservation.objects.raw(INSERT_HOLD, hold_parameters(request))
    return reservation


def held(request: Request, unit_price: Decimal, at: datetime) -> Reservation:
    """The reservation as it was written for this request, at this price and time."""
    written = {
        "id": request.reservation_id,
        "product_id": request.product_id,
        "quantity": request.quantity,
        "returned": 0,
        "written_off": 0,
        "unit_price": unit_price,
        "status": "HELD",
        "buyer": request.buyer,
        "expires_at": at + request.hold_for,
        "idempotency_key": request.idempotency_key,
        "strategy": request.strategy,
        "created_at": at,
        "decided_at": None,
    }
    # As if it had been read: a third of the time that the model's constructor takes.
    return Reservation.from_db(DEFAULT_DB_ALIAS, written.keys(), written.values())


@dataclass(frozen=True)
class OfBuyer:
    """What one snapshot shows of a buyer."""

    quantities: list[int]
    """Of each hold that is alive, in units."""
    value: Decimal
    """What all of these cost, in the shop's currency."""
    has_key: bool
    """Whether a reservation of the buyer has the idempotency key that was asked for."""


def of_buyer(buyer: str, idempotency_key: str | None = None) -> OfBuyer:
    """Look at the buyer's holds (as ``ReservationQuerySet.alive``), and for that key.

    In SQL, since each request to reserve asks for it, before and after: Django was measured to
    take ten times as long for writing the statement as PostgreSQL for answering it.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT quantity, unit_price, is_alive, coalesce(idempotency_key = %(key)s, false)
            FROM inventory_reservation, LATERAL (SELECT
                CASE WHEN status = 'HELD' THEN expires_at > statement_timestamp() ELSE false END
                AS is_alive
            ) AS hold
            WHERE buyer = %(buyer)s
                AND (idempotency_key = %(key)s OR status IN ('HELD', 'SOLD') AND is_alive)
            """,
            {"buyer": buyer, "key": idempotency_key},
        )
        rows = cursor.fetchall()
    alive = [(quantity, unit_price) for quantity, unit_price, is_alive, _ in rows if is_alive]
    return OfBuyer(
        quantities=[quantity for quantity, _ in alive],
        value=sum((quantity * unit_price for quantity, unit_price in alive), Decimal(0)),
        has_key=any(has_key for *_, has_key in rows),
    )


def take_back_lapsed(
    product_id: int,
    at_most: int = TAKE_BACK_AT_ONCE,
    *,
    buyer: str | None = None,
    only: Collection[uuid.UUID] | None = None,
) -> tuple[int, int]:
    """Take back a product's lapsed holds, oldest first; the caller has locked the product.

    Waits for a hold that is just being confirmed or prolonged, and then looks at it again; in
    the order of primary keys, as everybody who locks several of a product's reservations.
    With ``buyer``, only those of that buyer; with ``only``, no others. Returns (holds, units).
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH lapsed AS MATERIALIZED (
                SELECT id FROM inventory_reservation
                WHERE status = 'HELD' AND expires_at <= statement_timestamp() AND id IN (
                    SELECT id FROM inventory_reservation
                    WHERE product_id = %(product_id)s AND status = 'HELD'
                        AND expires_at <= statement_timestamp()
                        AND (%(buyer)s::text IS NULL OR buyer = %(buyer)s)
                        AND (%(only)s::uuid[] IS NULL OR id = ANY(%(only)s))
                    ORDER BY expires_at LIMIT %(at_most)s
                )
                ORDER BY id FOR NO KEY UPDATE
            )
            UPDATE inventory_reservation AS reservation
            SET status = 'EXPIRED', decided_at = statement_timestamp()
            FROM lapsed
            WHERE reservation.id = lapsed.id
                AND reservation.status = 'HELD'
                AND reservation.expires_at <= statement_timestamp()
            RETURNING reservation.quantity
            """,
            {
                "product_id": product_id,
                "buyer": buyer,
                "only": None if only is None else list(only),
                "at_most": at_most,
            },
        )
        quantities = [quantity for (quantity,) in cursor.fetchall()]
    if quantities:
        give_back(product_id, sum(quantities))
    return len(quantities), sum(quantities)


def give_back(product_id: int, units: int) -> None:
    """Make units available again that a reservation let go in the same transaction."""
    Product.objects.filter(pk=product_id).update(
        stock=F("stock") + units, version=F("version") + 1, backstop=backstop_after(units)
    )


def backstop_after(units: int) -> Case:
    """The backstop when ``units`` come in: on again, if they bring stock up to zero or more.

    It was off because more had been promised than existed (``stock.repair``).
    """
    return Case(
        When(stock__lt=0, stock__gte=-units, then=Value(True)),
        default=F("backstop"),
        output_field=BooleanField(),
    )


@dataclass(frozen=True)
class Available:
    """What one snapshot shows of a product, in units."""

    is_active: bool
    stock: int
    lapsed: int
    """Units in holds whose time is over: as good as stock."""
    keys: Collection[str]
    """Those of the requests' idempotency keys with which there is a reservation already."""

    def is_enough_for(self, request: Request) -> bool:
        return self.is_active and request.quantity <= self.stock + self.lapsed


def available_now(product_id: int, keys: Iterable[str | None] = ()) -> Available:
    """Look at the product, its lapsed holds, and which of these idempotency keys are taken.

    In one statement, and so on one snapshot. Raises Product.DoesNotExist.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT is_active, stock, (
                SELECT coalesce(sum(quantity), 0)::int FROM inventory_reservation
                WHERE product_id = product.id AND status = 'HELD'
                    AND expires_at <= statement_timestamp()
            ), ARRAY(
                SELECT idempotency_key FROM inventory_reservation
                WHERE idempotency_key = ANY(%s::text[])
            )
            FROM inventory_product AS product WHERE id = %s
            """,
            [[key for key in keys if key is not None], product_id],
        )
        row = cursor.fetchone()
    if row is None:
        raise Product.DoesNotExist(f"There is no product {product_id}.")
    return Available(*row)


Refusal = NotForSale | InsufficientStock | DuplicateKey


def refusal(request: Request) -> Refusal:
    """The exception that tells why nothing was taken.

    It stands on one snapshot and so is true at that instant: what it calls available is stock
    plus lapsed holds. If that is enough after all, the caller takes the lapsed holds back and
    tries again. It is DuplicateKey where the first request of this key has a reservation, which
    may be what stands in the way of the second.
    """
    return refusal_at(available_now(request.product_id, [request.idempotency_key]), request)


def refusal_at(now: Available, request: Request) -> Refusal:
    """The refusal that stands on this snapshot."""
    if request.idempotency_key in now.keys:
        return DuplicateKey("There is a reservation with this key.")
    if not now.is_active:
        return NotForSale(request.sku)
    return InsufficientStock(request.sku, request.quantity, now.stock + now.lapsed)


def check_buyer_limit(request: Request) -> None:
    """Raise BuyerLimitExceeded if the buyer would get more than ``max_per_buyer``.

    Only exact if the buyer's other requests for the product wait meanwhile.
    """
    if request.max_per_buyer is None:
        return
    already = units_of_buyers(request.product_id, [request.buyer]).get(request.buyer, 0)
    if already + request.quantity > request.max_per_buyer:
        raise BuyerLimitExceeded(request.sku, request.max_per_buyer, already)


def units_of_buyers(product_id: int, buyers: Collection[str]) -> dict[str, int]:
    """Units of a product that these buyers have, as ``ReservationQuerySet.units`` counts them."""
    rows = (
        Reservation.objects.filter(
            product_id=product_id, buyer__in=buyers, status__in=["HELD", "SOLD"]
        )
        .order_by()
        .values_list("buyer")
        .annotate(units=Sum(F("quantity") - F("returned") - F("written_off")))
    )
    return dict(rows)
