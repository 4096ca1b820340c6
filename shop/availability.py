"""How much of a product there is, in numbers and as people say it.

A lapsed hold counts as available, since whoever asks for its units gets them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import F, OuterRef, Q, Subquery, Sum
from django.db.models.functions import Coalesce, Now

from inventory.models import Product, ProductQuerySet, Reservation

FEW = 3  # units from which down we say "last"


@dataclass(frozen=True)
class Availability:
    """Units that anybody may take now, and units in the baskets of others or of oneself."""

    available: int
    held: int

    @property
    def state(self) -> str:
        """One of ``plenty``, ``few``, ``held`` (nothing left, but it may come back), ``gone``."""
        if self.available > FEW:
            return "plenty"
        if self.available > 0:
            return "few"
        return "held" if self.held else "gone"

    def __str__(self) -> str:
        return {
            "plenty": f"{self.available} left",
            "few": f"Last {self.available}" if self.available > 1 else "Last one",
            "held": "All in baskets, try again in a few minutes",
            "gone": "Sold out",
        }[self.state]


def with_availability(products: ProductQuerySet) -> ProductQuerySet:
    """Add ``available`` and ``held`` (units) to the products."""
    return products.annotate(
        available=F("stock") + Coalesce(_units(expires_at__lte=Now()), 0),
        held=Coalesce(_units(expires_at__gt=Now()), 0),
    )


def in_stock(products: ProductQuerySet) -> ProductQuerySet:
    """Those of which somebody may take a unit now; they come from ``with_availability``."""
    return products.filter(Q(("available__gt", 0)))


def _units(**which: Any) -> Subquery:
    """The units in the product's holds of this kind, by the index on a product's holds."""
    holds = Reservation.objects.held().filter(Q(**which), product=OuterRef("pk")).order_by()
    return Subquery(holds.values("product").annotate(units=Sum("quantity")).values("units"))


def of(product: Product) -> Availability:
    """The availability of a product that came through ``with_availability``."""
    numbers: Any = product
    return Availability(numbers.available, numbers.held)


def now(product: Product) -> Availability:
    """The availability of any product, asked of the database."""
    return of(with_availability(Product.objects.filter(pk=product.pk)).get())
