"""The catalogue: the search, and each product's availability in numbers and in words.

A lapsed hold counts as available: the next buyer who asks gets its units. An availability is
never below zero, even after an oversell: nobody can take less than nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from django.db.models import Exists, F, OuterRef, Q, Subquery, Sum
from django.db.models.functions import Coalesce, Now

from inventory.database import Question
from inventory.models import Product, ProductQuerySet, Reservation, ReservationQuerySet
from shop.compiled_queries import CompiledQuery, compiled
from shop.holds import open_holds
from shop.models import Order

FEW = 3  # with so many units or fewer we say "last"


@dataclass(frozen=True)
class Availability:
    """Units of a product for one visitor, each zero or more."""

    available: int
    """Anybody may take them now."""
    may_come_back: int
    """Others hold them; if these holds end, anybody may take them."""
    held_by_you: int
    """In the visitor's own basket, and in orders that wait for their payment."""

    @property
    def state(self) -> str:
        """One of ``plenty``, ``few``, ``held`` (others hold all), ``yours`` and ``gone``."""
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

    ``available`` is the database's own number, which is below zero after an oversell. ``held``
    counts the units in all holds that are alive.
    """
    products = products.annotate(
        available=F("stock") + Coalesce(_units(expires_at__lte=Now()), 0),
        held=Coalesce(_units(expires_at__gt=Now()), 0),
    )
    if not buyer:  # nobody holds anything without a key
        return products
    return products.annotate(held_by_you=Coalesce(_units(expires_at__gt=Now(), buyer=buyer), 0))


def in_stock(products: ProductQuerySet) -> ProductQuerySet:
    """Keep the products with a unit to take now; they come from ``with_availability``."""
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
        # Where ``available`` is below zero, the first units that come back only make up for that.
        may_come_back=max(0, min(held_by_others, numbers.available + held_by_others)),
        held_by_you=held_by_you,
    )


def availability_now(product: Product, buyer: str = "") -> Availability:
    """Ask the database for the availability of a product to a visitor."""
    return availability_of(with_availability(Product.objects.filter(pk=product.pk), buyer).get())


def find_product(slug: str, buyer: str) -> Any:
    """The shop's product with this slug, and all that its page shows to the buyer; None if none.

    It comes from one statement, so its numbers belong together: the availability
    (``availability_of``), ``in_basket`` and ``units_in_basket`` (the units of it and of all
    products in the buyer's basket), and ``is_in_open_order``, of the buyer.
    """
    return _with_buyer(slug=slug, buyer=buyer).first()


@compiled
def _with_buyer(slug: str, buyer: str) -> ProductQuerySet:
    in_basket = open_holds(buyer).filter(product=OuterRef("pk"))
    open_orders = Order.objects.pending().of_buyer(buyer)
    product = Product.objects.catalogue().filter(slug=slug).order_by()
    return with_availability(product, buyer).annotate(
        in_basket=_sum_of(in_basket, by="product"),
        units_in_basket=_sum_of(open_holds(buyer), by="buyer"),
        is_in_open_order=Exists(open_orders.filter(lines__reservation__product=OuterRef("pk"))),
    )


def question_of_product(slug: str) -> Question[list[Product]]:
    """The statement that reads the shop's product with this slug: a list of one, or of none."""
    return _in_catalogue(slug=slug).question()


@compiled
def _in_catalogue(slug: str) -> ProductQuerySet:
    return Product.objects.catalogue().filter(slug=slug).order_by()


def _sum_of(holds: ReservationQuerySet, *, by: str) -> Coalesce:
    """Their units in a query; ``by`` is a column in which all of them have the same value."""
    units = holds.order_by().values(by).annotate(units=Sum("quantity")).values("units")
    return Coalesce(Subquery(units), 0)


def search(
    words: Collection[str], order: Sequence[str], *, only_in_stock: bool = False, buyer: str = ""
) -> Any:
    """The products for sale that have every word in name, description or SKU; for a Paginator.

    ``order`` names the fields to sort by.
    """
    if not words:
        return _all_for_sale(tuple(order), only_in_stock)(buyer=buyer)
    products = _for_sale(order, only_in_stock, buyer)
    for word in words:
        products = products.filter(
            Q(name__icontains=word) | Q(description__icontains=word) | Q(sku__icontains=word)
        )
    return products


@cache  # of each order and filter that the search form has
def _all_for_sale(order: tuple[str, ...], only_in_stock: bool) -> CompiledQuery[Product]:
    @compiled
    def all_for_sale(buyer: str) -> ProductQuerySet:
        return _for_sale(order, only_in_stock, buyer)

    return all_for_sale


def _for_sale(order: Sequence[str], only_in_stock: bool, buyer: str) -> ProductQuerySet:
    products = with_availability(Product.objects.for_sale(), buyer)
    if only_in_stock:
        products = in_stock(products)
    return products.order_by(*order)
