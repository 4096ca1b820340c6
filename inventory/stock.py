"""Units put on sale and taken off again. Each change is one recorded movement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db.models import F

from inventory import alerts, monitor
from inventory.database import atomic
from inventory.exceptions import IdempotencyKeyReused, InsufficientStock, InvalidQuantity
from inventory.holds import (
    MOST_UNITS,
    backstop_after,
    check_idempotency_key,
    check_quantity,
    check_text,
    free_lapsed,
)
from inventory.locking import lock_product, lock_product_to_take
from inventory.models import LONGEST_NOTE, Product, StockMovement
from inventory.words import counted

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

Reason = StockMovement.Reason


def receive(
    product: Product,
    units: int,
    *,
    reason: Reason = Reason.DELIVERY,
    note: str = "",
    by: AbstractBaseUser | None = None,
    idempotency_key: str | None = None,
) -> StockMovement:
    """Put ``units`` more of ``product`` on sale and return the movement.

    ``by`` is the user who did it, None for a command or a job. If stock was below zero after a
    repair, the receipt that brings it to zero or more switches the backstop on again. A second
    call with the same ``idempotency_key`` changes nothing and returns the first movement
    (``is_repeated``).

    Raises InvalidQuantity for less than 1, or more than the count can hold; InvalidText for a
    ``note`` or ``idempotency_key`` that can't be stored; IdempotencyKeyReused.
    """
    check_quantity(units)
    _check_texts(note, idempotency_key)
    with atomic():
        stock = lock_product(product.pk)
        if earlier := _earlier_movement(product, units, idempotency_key):
            return earlier
        if max(stock.units_received, stock.stock) + units > MOST_UNITS:
            raise InvalidQuantity(f"{product.sku} can't have more than {MOST_UNITS} units.")
        Product.objects.filter(pk=product.pk).update(
            stock=F("stock") + units,
            units_received=F("units_received") + units,
            version=F("version") + 1,
            backstop=backstop_after(units),
        )
        return _record(product, units, stock.stock, reason, note, by, key=idempotency_key)


def remove(
    product: Product,
    units: int,
    *,
    reason: Reason,
    note: str = "",
    by: AbstractBaseUser | None = None,
    idempotency_key: str | None = None,
) -> StockMovement:
    """Take ``units`` of ``product`` off sale and return the movement.

    Only available units can go; lapsed holds are taken back first if they are needed. Held and
    sold units stay. ``idempotency_key`` is as in ``receive``.

    Raises InsufficientStock with the number available, InvalidQuantity, InvalidText,
    IdempotencyKeyReused.
    """
    check_quantity(units)
    _check_texts(note, idempotency_key)
    with atomic():
        before = lock_product_to_take(product.pk).stock
        if earlier := _earlier_movement(product, -units, idempotency_key):
            return earlier
        before += free_lapsed(product.pk, units - before)
        removed = Product.objects.filter(
            pk=product.pk, stock__gte=units, units_received__gte=units
        ).update(
            stock=F("stock") - units,
            units_received=F("units_received") - units,
            version=F("version") + 1,
        )
        if removed:
            return _record(product, -units, before, reason, note, by, key=idempotency_key)
    if before >= units:
        raise InvalidQuantity(
            f"{product.sku} has not received {counted(units, 'unit')}: its count is wrong, repair "
            "it first."
        )
    raise InsufficientStock(product.sku, units, before)


def repair(
    product: Product, *, note: str = "", by: AbstractBaseUser | None = None
) -> StockMovement | None:
    """Set stock to received − held − sold, and return the movement (of 0 units).

    Returns None if stock is right. If the right stock is below zero, units were promised that
    don't exist: the backstop goes off, and the product stays oversold until units are received
    or sales are cancelled.

    Raises InvalidText for a ``note`` that can't be stored.
    """
    _check_texts(note, None)
    with atomic():
        before = lock_product_to_take(product.pk).stock
        # Under the lock, in a statement of its own: no other transaction moves units meanwhile.
        right = monitor.state_of(product.pk).right_stock
        if right == before:
            return None
        Product.objects.filter(pk=product.pk).update(
            stock=right,
            version=F("version") + 1,
            backstop=F("backstop") if right >= 0 else False,
        )
        return _record(product, 0, before, Reason.REPAIR, note, by, after=right)


def _check_texts(note: str, key: str | None) -> None:
    check_text("note", note, LONGEST_NOTE)
    check_idempotency_key(key)


def _earlier_movement(product: Product, units: int, key: str | None) -> StockMovement | None:
    """The earlier movement with this key. The caller has locked the product."""
    earlier = StockMovement.objects.filter(idempotency_key=key).first() if key else None
    if earlier is None:
        return None
    if (earlier.product_id, earlier.units) != (product.pk, units):
        raise IdempotencyKeyReused(
            "This form was sent before with other units, and nothing was done this time. Open it "
            "again for another movement."
        )
    earlier.is_repeated = True
    return earlier


def _record(
    product: Product,
    units: int,
    before: int,
    reason: Reason,
    note: str,
    by: AbstractBaseUser | None,
    *,
    after: int | None = None,
    key: str | None = None,
) -> StockMovement:
    movement = StockMovement.objects.create(
        product_id=product.pk,
        units=units,
        reason=reason,
        note=note,
        stock_before=before,
        stock_after=before + units if after is None else after,
        made_by_id=by.pk if by else None,
        idempotency_key=key,
    )
    alerts.refresh_open(product.pk)
    return movement
