"""Locks, and the one order in which they are taken.

1. A buyer's queue for a product (``queue_buyer``), only where ``max_per_buyer`` is set.
2. A product's queue (``queue_product``): for the strategy ``mutex``, and for functions that take
   units away without a strategy (removal, repair, taking lapsed holds back for a buyer).
3. Products, by primary key (``lock_products``).
4. Reservations, by product and primary key.

For several products in one transaction: 1 to 3 for one product after the other, by primary key.

Take each lock in a statement of its own. Under READ COMMITTED, a statement that waits for a lock
still sees the other rows as they were before it waited. So the next statement must read them. And
a statement that changes a reservation and then its product deadlocks with a refusal, which locks
the product and then takes its lapsed holds back.

Never wait for anything outside the database with one of these locks. Each ends with its
transaction, so that a pooler may stand in between.
"""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

import pglock

from inventory.database import alias, connection
from inventory.models import Product, Reservation


def lock_products(product_ids: Iterable[int]) -> dict[int, Product]:
    """Lock these products' rows until the transaction ends; return them by primary key.

    FOR NO KEY UPDATE, so that new reservations, which only refer to the product, need not wait.
    """
    locked = (
        Product.objects.select_for_update(no_key=True)
        .filter(pk__in=set(product_ids))
        .order_by("pk")
    )
    return {product.pk: product for product in locked}


def lock_reservations(reservation_ids: Iterable[UUID]) -> list[Reservation]:
    """Lock these reservations until the transaction ends; return them by product.

    Raises Reservation.DoesNotExist if one of them does not exist.
    """
    ids = set(reservation_ids)
    locked = (
        Reservation.objects.select_for_update(no_key=True)
        .filter(pk__in=ids)
        .order_by("product_id", "pk")
    )
    found = list(locked)
    if missing := ids - {reservation.pk for reservation in found}:
        raise missing_error(missing)
    return found


def missing_error(ids: Iterable[UUID]) -> Reservation.DoesNotExist:
    """The error that names one of these, of which there are no reservations."""
    return Reservation.DoesNotExist(f"There is no reservation {min(map(str, ids))}.")


def lock_product(product_id: int) -> Product:
    """Lock one product's row until the transaction ends. Raises Product.DoesNotExist."""
    return Product.objects.select_for_update(no_key=True).get(pk=product_id)


def lock_product_to_take(product_id: int) -> Product:
    """Lock a product's row for a change that may take units away without a strategy.

    Buyers of the strategy ``mutex`` check and write without a lock on the row. The queue keeps
    them away.
    """
    queue_product(product_id)
    return lock_product(product_id)


def queue_buyer(product_id: int, buyer: str) -> None:
    """Wait until no other request of this buyer for this product is under way."""
    queue_buyers(product_id, [buyer])


def queue_buyers(product_id: int, buyers: Iterable[str]) -> None:
    """Do the same for several buyers in one statement, always in the same order of locks."""
    locks = {
        pglock.advisory(f"buyer {buyer} of product {product_id}").int_lock_id for buyer in buyers
    }
    with connection().cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(id) FROM unnest(%s::bigint[]) AS id", [sorted(locks)]
        )


def queue_product(product_id: int) -> None:
    """Wait until no other transaction is in this product's queue."""
    pglock.advisory(f"product {product_id}", xact=True, using=alias()).acquire()
