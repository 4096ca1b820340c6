"""A buyer's request, and the writes that strategies share.

These record a hold, change holds, take lapsed ones back, and give units back. Time is always the
database's: ``statement_timestamp()``, since ``now()`` is the start of the transaction, which may
have waited long for a lock.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from django.db.models import BooleanField, Case, F, Value, When

from inventory.database import alias, connection
from inventory.exceptions import InvalidQuantity, InvalidText
from inventory.law import FOUND_HAS_LAPSED, HAS_LAPSED, IS_COUNTED
from inventory.models import LONGEST_BUYER, LONGEST_KEY, Product, Reservation

MOST_UNITS = 2_147_483_647  # what PostgreSQL's integer holds
TAKE_BACK_AT_MOST = 1000  # lapsed holds in one statement
# A buyer who needs fewer takes back so many, for the next ones. It costs little beside the rest of
# the request (measured: 1 ms), and what is taken back needs no transaction of this kind any more.
TAKE_BACK_AT_LEAST = 50


@dataclass(frozen=True)
class Request:
    """A buyer's request: ``quantity`` units of a product, to be held for ``hold_for``.

    Raises InvalidQuantity if ``quantity`` is not a number of units, InvalidText if ``buyer`` or
    ``idempotency_key`` can't be stored.
    """

    product_id: int
    sku: str
    quantity: int
    buyer: str
    hold_for: timedelta
    strategy: str
    idempotency_key: str | None = None
    max_per_buyer: int | None = None
    reservation_id: uuid.UUID = field(default_factory=uuid.uuid4)

    def __post_init__(self) -> None:
        check_quantity(self.quantity)
        check_text("buyer's key", self.buyer, LONGEST_BUYER)
        check_idempotency_key(self.idempotency_key)


def check_quantity(quantity: object) -> None:
    """Raise InvalidQuantity unless ``quantity`` is a number of units, 1 to MOST_UNITS."""
    if isinstance(quantity, bool) or not isinstance(quantity, int):
        raise InvalidQuantity(f"The quantity must be a whole number, not {quantity!r}.")
    if quantity < 1:
        raise InvalidQuantity(f"The quantity must be at least 1, not {quantity}.")
    if quantity > MOST_UNITS:
        raise InvalidQuantity(f"The quantity must be at most {MOST_UNITS}.")


def check_idempotency_key(key: str | None) -> None:
    """Raise InvalidText if the key can't be stored."""
    if key is not None:
        check_text("idempotency key", key, LONGEST_KEY)


def check_text(name: str, text: str, longest: int) -> None:
    """Raise InvalidText unless PostgreSQL can store ``text`` in ``longest`` characters."""
    text = str(text)  # a caller without type checks may give a number or a UUID
    if len(text) > longest:
        raise InvalidText(f"The {name} must have at most {longest} characters, not {len(text)}.")
    try:
        has_nul = b"\0" in text.encode()
    except UnicodeEncodeError as error:
        raise InvalidText(f"The {name} has half a character (a lone surrogate).") from error
    if has_nul:
        raise InvalidText(f"The {name} must not have a NUL character.")


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


def written_hold(request: Request, unit_price: Decimal, at: datetime) -> Reservation:
    """The reservation that was written for this request, at this price and time."""
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
    # Built as from a query: this takes a third of the time of the model's constructor.
    return Reservation.from_db(alias(), written.keys(), written.values())


# All of them, or none. The rows are locked in the order of ``inventory.locking``, and are looked at
# as they are once they are locked. Nothing else is read. So one statement does the work of four,
# and needs no savepoint: if one of the holds doesn't fit, nothing was changed.
CHANGE_ALL = """
    WITH locked AS MATERIALIZED (
        SELECT id, {fits} AS fits FROM inventory_reservation
        WHERE id = ANY(%(ids)s::uuid[])
        ORDER BY product_id, id FOR NO KEY UPDATE
    ), fitting AS MATERIALIZED (
        SELECT count(*) AS number FROM locked WHERE fits
    )
    UPDATE inventory_reservation AS hold SET {change}
    FROM locked, fitting
    WHERE hold.id = locked.id AND fitting.number = cardinality(%(ids)s::uuid[])
    RETURNING hold.*
"""
PROLONGED = """
    greatest(
        expires_at,
        least(statement_timestamp() + %(hold_for)s::interval, created_at + %(at_most)s::interval)
    )
"""
PROLONG_ALL = CHANGE_ALL.format(
    fits=f"status = 'HELD' AND {PROLONGED} > statement_timestamp()",
    change=f"expires_at = {PROLONGED}",
)
CONFIRM_ALL = CHANGE_ALL.format(
    fits="status = 'HELD'", change="status = 'SOLD', decided_at = statement_timestamp()"
)


def prolong_all(
    ids: Collection[uuid.UUID], *, hold_for: timedelta, at_most: timedelta
) -> list[Reservation]:
    """Prolong all of these holds (``reservations.prolong``), and return them by product.

    Return nothing, and change nothing, if one of them is no hold or can't be prolonged. All are
    locked then.
    """
    return _change_all(PROLONG_ALL, ids, hold_for=hold_for, at_most=at_most)


def confirm_all(ids: Collection[uuid.UUID]) -> list[Reservation]:
    """Make all of these holds sales, and return them by product.

    Return nothing, and change nothing, if one of them is no hold. All are locked then.
    """
    return _change_all(CONFIRM_ALL, ids)


def _change_all(
    statement: str, ids: Collection[uuid.UUID], **parameters: object
) -> list[Reservation]:
    changed = Reservation.objects.raw(statement, {"ids": list(ids), **parameters})
    return sorted(changed, key=lambda reservation: (reservation.product_id, reservation.pk))


def free_lapsed(product_id: int, missing: int) -> int:
    """Take back lapsed holds until ``missing`` units came of them, or no lapsed hold is left.

    The caller has locked the product. Returns the units that came of them, perhaps more.
    """
    freed = 0
    while freed < missing:
        at_most = min(max(missing - freed, TAKE_BACK_AT_LEAST), TAKE_BACK_AT_MOST)
        units = take_back_lapsed(product_id, at_most)[1]
        # None came: all that we waited for may have been confirmed, and others may be left.
        if not units and not _has_lapsed(product_id):
            break
        freed += units
    return freed


def _has_lapsed(product_id: int) -> bool:
    lapsed = Reservation.objects.all_lapsed().filter(product_id=product_id)
    return lapsed.order_by("expires_at").values("pk").first() is not None


def take_back_lapsed(
    product_id: int,
    at_most: int = TAKE_BACK_AT_MOST,
    *,
    buyer: str | None = None,
    only: Collection[uuid.UUID] | None = None,
) -> tuple[int, int]:
    """Take back a product's lapsed holds, oldest first. The caller has locked the product.

    Waits for a hold that is just being confirmed or prolonged, and then looks at it again.
    Locks holds in the order of primary keys, as all functions do. ``buyer`` limits it to this
    buyer's holds, ``only`` to these, all of this product. Returns (holds, units).
    """
    with connection().cursor() as cursor:
        cursor.execute(
            f"""
            WITH lapsed AS MATERIALIZED (
                SELECT id FROM inventory_reservation
                WHERE {FOUND_HAS_LAPSED} AND id IN (
                    SELECT id FROM inventory_reservation
                    WHERE {_which_lapsed(buyer, only)}
                    ORDER BY expires_at LIMIT %(at_most)s
                )
                ORDER BY id FOR NO KEY UPDATE
            )
            UPDATE inventory_reservation AS reservation
            SET status = 'EXPIRED', decided_at = statement_timestamp()
            FROM lapsed
            WHERE reservation.id = lapsed.id AND {FOUND_HAS_LAPSED}
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


def _which_lapsed(buyer: str | None, only: Collection[uuid.UUID] | None) -> str:
    """The condition on the holds to take back: each kind has an index of its own."""
    if only is not None:
        return f"id = ANY(%(only)s::uuid[]) AND {FOUND_HAS_LAPSED}"
    if buyer is not None:
        of_product = "product_id + 0 = %(product_id)s"  # as ReservationQuerySet.of_buyer
        return f"buyer = %(buyer)s AND {of_product} AND {IS_COUNTED} AND {FOUND_HAS_LAPSED}"
    return f"product_id = %(product_id)s AND {HAS_LAPSED}"


def give_back(product_id: int, units: int) -> None:
    """Make units available again that a reservation releases in the same transaction."""
    Product.objects.filter(pk=product_id).update(
        stock=F("stock") + units, version=F("version") + 1, backstop=backstop_after(units)
    )


def backstop_after(units: int) -> Case:
    """The backstop after a receipt of ``units``: on again if they bring stock to zero or more.

    It was off because more units were promised than existed (``stock.repair``).
    """
    return Case(
        When(stock__lt=0, stock__gte=-units, then=Value(True)),
        default=F("backstop"),
        output_field=BooleanField(),
    )
