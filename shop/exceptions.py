"""Errors of the shop, each with a message for the person who asked.

Where one is raised, nothing was changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shop.models import Order


class ShopError(Exception):
    """The base of all errors of the shop."""


class EmptyBasket(ShopError):
    """There is nothing to order in the basket."""


class BasketChanged(ShopError):
    """The basket isn't what the buyer saw: look again before paying."""


class HoldInOrder(ShopError):
    """The hold belongs to ``order``; the basket can't change it any more."""

    def __init__(self, message: str, order: Order) -> None:
        self.order = order
        super().__init__(message)


class OrderTooLarge(ShopError):
    """The total is more than an order, or a payment for it, can store."""


class LimitPerCustomer(ShopError):
    """The customer's e-mail address would get more units than the product allows."""


class LimitPerAddress(ShopError):
    """The buyer's network address would hold more units than the shop allows."""


class KeyReused(ShopError):
    """The idempotency key belongs to another buyer's order."""


class OrderChanged(ShopError):
    """The order has changed since the caller looked at it."""


class NotInThisState(ShopError):
    """The order's state doesn't allow it."""


class InvalidRefund(ShopError):
    """The refund is of more money than was paid, of more units than were sold, or of nothing."""
