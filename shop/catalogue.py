"""The catalogue: what is found, and how much there is of it, in numbers and as people say it.

A lapsed hold counts as available, since whoever asks for its units gets them. No number here is
below zero, also where more was promised than there is: nobody can take less than nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import F, OuterRef, Q, Subquery, Sum
from django.db.models.functions import Coalesce, Now

from inventory.models import Product, ProductQuerySet, Reservation

FEW = 3  # units from which down we say "last"


@dataclass(frozen=True)
class Availability:
    """Units of a product for one visitor, each zero or more."""

    available: int
    """Anybody may take them now."""
    may_come_back: int
    """Others hold them, and anybody could take them if those let go."""
    held_by_you: int
    """In the visitor's own basket, and in orders that wait for their payment."""

    @property
    def state(self) -> str:
        """One of ``plenty``, ``few``, ``held`` (it may come back), ``yours`` and ``gone``."""
        if self.available > FEW:
            return "plenty"
        if self.available > 0:
            return "few"
        if self.may_come_back:
            return "held"
        return "yours" if self.held_by_you else "gone"

    def __str__(self) -> str:
        return {
            "plenty": f"{self.available} left",
            "few": f"Last {self.available}" if self.available > 1 else "Last one",
            "held": "All in baskets, try again in a few minutes",
            "yours": "You hold all that are left",
            "gone": "Sold out",
        }[self.state]


def with_availability(products: ProductQuerySet, buyer: str = "") -> ProductQuerySet:
    """Add ``available``, ``held`` and ``held_by_you`` (units) to the products.

    ``available`` is the count as it is in the database: it is below zero where more was promised
    than there is. ``held`` are the units in everybody's holds.
    """
    products = products.annotate(
        available=F("stock") + Coalesce(_units(expires_at__lte=Now()), 0),
        held=Coalesce(_units(expires_at__gt=Now()), 0),
    )
    if not buyer:  # nobody holds anything without a key
        return products
    return products.annotate(held_by_you=Coalesce(_units(expires_at__gt=Now(), buyer=buyer), 0))


def in_stock(products: ProductQuerySet) -> ProductQuerySet:
    """Those of which somebody may take a unit now; they come from ``with_availability``."""
    return products.filter(Q(("available__gt", 0)))


def _units(**which: Any) -> Subquery:
    """The units in the product's holds of this kind, by the index on a product's holds."""
    holds = Reservation.objects.held().filter(Q(**which), product=OuterRef("pk")).order_by()
    return Subquery(holds.values("product").annotate(units=Sum("quantity")).values("units"))


def availability_of(product: Product) -> Availability:
    """The availability of a product that came through ``with_availability``."""
    numbers: Any = product
    held_by_you: int = getattr(product, "held_by_you", 0)
    held_by_others = numbers.held - held_by_you
    return Availability(
        available=max(0, numbers.available),
        # Where the count is below zero, the first units that come back only make up for it.
        may_come_back=max(0, min(held_by_others, numbers.available + held_by_others)),
        held_by_you=held_by_you,
    )


def availability_now(product: Product, buyer: str = "") -> Availability:
    """The availability of any product for a visitor, asked of the database."""
    return availability_of(with_availability(Product.objects.filter(pk=product.pk), buyer).get())


def search(
    words: Collection[str], order: Sequence[str], *, only_in_stock: bool = False, buyer: str = ""
) -> ProductQuerySet:
    """The products for sale that have every word in name, description or SKU, in this order."""
    products = with_availability(Product.objects.for_sale(), buyer)
    for word in words:
        products = products.filter(
            Q(name__icontains=word) | Q(description__icontains=word) | Q(sku__icontains=word)
        )
    if only_in_stock:
        products = in_stock(products)
    return products.order_by(*order)
