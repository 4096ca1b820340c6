"""Strategies of a project that has lifted ``inventory``, some of them wrongly declared."""

from __future__ import annotations

from django.db.models import F

from inventory.database import atomic
from inventory.models import Product, Reservation
from inventory.strategies import Pay, Request, Strategy, record_hold, refusal
from inventory.strategies.unguarded_decrement import UnguardedDecrement


class Own(Strategy):
    slug = "own"
    label = "A strategy of our own"
    is_safe = True
    how = "Subtracts where enough is left, and looks at the number of rows. Nobody else wrote it."
    when = "In this test."

    def _take(self, request: Request, pay: Pay) -> Reservation:
        with atomic():
            enough = Product.objects.filter(
                pk=request.product_id, is_active=True, stock__gte=request.quantity
            )
            if enough.update(stock=F("stock") - request.quantity, version=F("version") + 1):
                return record_hold(request)
        raise refusal(request)


class SameSlug(Own):
    """Another strategy with the slug of ``Own``."""


class Oversells(UnguardedDecrement):
    """A strategy that calls itself safe, and isn't."""

    slug = "oversells"
    is_safe = True


class Abstract(Strategy):
    slug = "abstract"
    label = "Takes nothing"
    is_safe = True
    how = "It doesn't. Not at all."
    when = "Never."


class Unlabelled(Own):
    slug = "unlabelled"
    label = ""


class Undecided(Own):
    slug = "undecided"
    is_safe = "perhaps"  # type: ignore[assignment]


class Spaced(Own):
    slug = "two words"


class LongNamed(Own):
    slug = "s" * 33


class Demanding(Own):
    slug = "demanding"

    def __init__(self, price: int) -> None:
        self.price = price


class NoStrategy:
    slug = "none"


def function(request: Request, pay: Pay) -> Reservation:
    raise NotImplementedError
