"""Errors of taking and moving stock.

Their messages are for staff and logs: they name products by their SKU. A shop words them itself for
its customers; the attributes have the numbers for it.
"""

from __future__ import annotations


class InventoryError(Exception):
    """The app does not do what was asked. Nothing was changed."""


class InvalidQuantity(InventoryError):
    """The number of units makes no sense. The message names the numbers that do."""


class InvalidText(InventoryError):
    """A buyer's key, an idempotency key or a note can't be stored. The message says why."""


class InsufficientStock(InventoryError):
    """Fewer units are available than were asked for.

    ``available`` is the number of units at the instant of the refusal, lapsed holds included.
    A strategy also raises it if there are enough with the lapsed holds. Then the caller takes
    them back, and there may be more than ``available``.
    """

    def __init__(self, sku: str, requested: int, available: int) -> None:
        self.sku = sku
        self.requested = requested
        self.available = max(0, available)
        if self.available == 0:
            message = f"{sku} is sold out."
        else:
            message = f"Only {self.available} of {sku} available, {requested} asked for."
        super().__init__(message)


class NotForSale(InventoryError):
    """The product is switched off, so nobody can reserve it."""

    def __init__(self, sku: str) -> None:
        self.sku = sku
        super().__init__(f"{sku} is not for sale at the moment.")


class BuyerLimitExceeded(InventoryError):
    """The buyer would get more than the product's ``max_per_buyer`` (units of stock)."""

    def __init__(self, sku: str, limit: int, already: int) -> None:
        self.sku = sku
        self.limit = limit
        self.already = already
        super().__init__(f"At most {limit} of {sku} per buyer; you already have {already}.")


class DuplicateKey(InventoryError):
    """A reservation with this idempotency key exists (``reserve`` answers with that one)."""


class IdempotencyKeyReused(InventoryError):
    """The key of one request came with another: other product, quantity or buyer."""


class ReservationEnded(InventoryError):
    """The reservation no longer has the status that the request needs; ``status`` is today's."""

    def __init__(self, status: str, message: str) -> None:
        self.status = status
        super().__init__(message)


class ReservationChanged(InventoryError):
    """The numbers changed since the caller read them. Read them again."""


class TooMuchContention(InventoryError):
    """Too many buyers wrote at once, and this one found no gap in time. Trying again is safe."""


class UnknownStrategy(InventoryError):
    """There is no strategy of that name. The message has the nearest names."""


class CannotJoinTransaction(InventoryError):
    """The strategy needs a transaction of its own, and was called inside one."""
