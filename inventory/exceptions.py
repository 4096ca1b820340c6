"""What can go wrong with stock. Every message may be shown to the person who asked."""

from __future__ import annotations


class InventoryError(Exception):
    """Anything that this app refuses. Nothing was changed."""


class InvalidQuantity(InventoryError):
    """A number of units that makes no sense; names what would."""


class InsufficientStock(InventoryError):
    """Fewer units are available than were asked for.

    ``available`` is the number that was there at the instant of the refusal, lapsed holds
    included (units of stock).
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
    """The product is switched off: no new holds."""

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
    """The reservation is no longer what the request needs; ``status`` says what it is."""

    def __init__(self, status: str, message: str) -> None:
        self.status = status
        super().__init__(message)


class ReservationChanged(InventoryError):
    """The numbers that the request was based on have changed since: look again."""


class TooMuchContention(InventoryError):
    """So many buyers at once that this one found no gap in time. Trying again is safe."""


class UnknownStrategy(InventoryError):
    """There is no strategy of that name; the message has the nearest ones."""


class CannotJoinTransaction(InventoryError):
    """The strategy needs a transaction of its own, and was called inside one."""
