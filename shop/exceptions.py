"""What the shop refuses, in words for the person who asked. Nothing was changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shop.models import Order


class ShopError(Exception):
    """Anything that the shop refuses."""


class EmptyBasket(ShopError):
    """There is nothing to order."""


class BasketChanged(ShopError):
    """The basket isn't what the buyer saw: look again before paying."""


class HoldInOrder(ShopError):
    """The hold belongs to ``order``; the basket can't change it any more."""

    def __init__(self, message: str, order: Order) -> None:
        self.order = order
        super().__init__(message)


class OrderTooLarge(ShopError):
    """It comes to more than an order, or a payment for it, can keep."""


class LimitPerCustomer(ShopError):
    """The customer's e-mail address would get more units than the product allows."""


class LimitPerAddress(ShopError):
    """The buyer's network address would hold more units than the shop allows."""


class KeyReused(ShopError):
    """The key of one request came with another one's order."""


class OrderChanged(ShopError):
    """The numbers that the request was based on have changed since: look again."""


class NotInThisState(ShopError):
    """The order's state doesn't allow it."""


class InvalidRefund(ShopError):
    """More than was paid, more units than were sold, or nothing at all."""
