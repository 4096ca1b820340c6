"""The catalogue: the search, and each product's availability in numbers and in words.

A lapsed hold counts as available: the next buyer who asks gets its units. An availability is
never below zero, even after an oversell: nobody can take less than nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from django.db.models import BigIntegerField, Exists, F, Func, OuterRef, Q, Subquery, Sum, Value
from django.db.models.expressions import Combinable
from django.db.models.functions import Cast, Coalesce, Least
from django.db.models.lookups import GreaterThan

from inventory.database import Question
from inventory.law import HAS_LAPSED, IS_HELD, units_in_holds_in_sql
from inventory.models import Product, ProductQuerySet, Reservation, ReservationQuerySet
from shop.compiled_queries import CompiledQuery, Results, compiled
from shop.holds import open_holds
from shop.models import Order

FEW = 3  # with so many units or fewer we say "last"
# So many lapsed units are counted, beside the stock. Of more, a page says "at least".
LAPSED_COUNTED = 100
MOST_LISTED = 1200  # products of a list: a hundred pages


@dataclass(frozen=True)
class Availability:
    """Units of a product for one visitor, each zero or more."""

    available: int
    """Anybody may take them now."""
    may_be_more: bool
    """Whether more than ``available`` may be there: not all lapsed holds were counted."""
    may_come_back: bool
    """Whether there will be units to take if all holds of others end."""
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
            "plenty": f"{'At least ' if self.may_be_more else ''}{self.available} left",
            "few": f"Last {self.available}" if self.available > 1 else "Last one",
            "held": "All in baskets, try again in a few minutes",
            "yours": "You hold all that are left",
            "gone": "Sold out",
        }[self.state]


def with_availability(
    products: ProductQuerySet, buyer: str = "", *, wanted: int = 0
) -> ProductQuerySet:
    """Add what ``availability_of`` needs to the products, for this buyer.

    Lapsed units are counted as far as somebody who wants ``wanted`` units must know, and at least
    up to LAPSED_COUNTED. So it costs the same however many holds a product has.

    ``available`` is the database's own number, which is below zero after an oversell: the first
    units that come back only make up for that.
    """
    lapsed_counted = max(LAPSED_COUNTED, wanted)
    yours = Reservation.objects.alive().of_buyer(buyer, OuterRef("pk"))
    return products.annotate(
        available=F("stock") + _lapsed_units(lapsed_counted - Least(F("stock"), 0)),
        may_come_back=GreaterThan(F("stock") + _units_without_yours(1 - F("stock"), buyer), 0),
        held_by_you=_sum_of(yours) if buyer else Value(0),
    )


def in_stock(products: ProductQuerySet) -> ProductQuerySet:
    """Keep the products with a unit to take now. It counts no more lapsed holds than it must."""
    return products.filter(GreaterThan(F("stock") + _lapsed_units(1 - F("stock")), 0))


def _lapsed_units(at_most: Combinable) -> UnitsInHolds:
    return UnitsInHolds(F("pk"), _bigint(at_most), template=LAPSED)


def _units_without_yours(at_most: Combinable, buyer: str) -> UnitsInHolds:
    return UnitsInHolds(F("pk"), _bigint(at_most), Value(buyer), template=HELD_WITHOUT_YOURS)


def _bigint(number: Combinable) -> Cast:
    return Cast(number, BigIntegerField())


class UnitsInHolds(Func):
    """The units in a product's holds, counted up to a bound (``law.units_in_holds_in_sql``)."""

    output_field = BigIntegerField()


LAPSED = f"({units_in_holds_in_sql('%(expressions)s', HAS_LAPSED)})"
HELD_WITHOUT_YOURS = f"""({
    units_in_holds_in_sql(
        "%(expressions)s",
        f"{IS_HELD} AND (buyer <> asked.buyer OR expires_at <= statement_timestamp())",
        "buyer",
    )
})"""


def availability_of(product: Product) -> Availability:
    """The availability of a product that came through ``with_availability``."""
    numbers: Any = product
    return Availability(
        available=max(0, numbers.available),
        may_be_more=numbers.available - max(0, numbers.stock) >= LAPSED_COUNTED,
        may_come_back=numbers.may_come_back,
        held_by_you=numbers.held_by_you,
    )


def availability_now(product: Product, buyer: str = "", *, wanted: int = 0) -> Availability:
    """Ask the database for the availability of a product to a visitor.

    The number is exact if it is less than the ``wanted`` units.
    """
    found = None
    if wanted <= LAPSED_COUNTED:
        found = _with_availability(slug=product.slug, buyer=buyer).first()
    if found is None:  # many are wanted, or the slug was changed just now
        products = Product.objects.filter(pk=product.pk)
        found = with_availability(products, buyer, wanted=wanted).get()
    return availability_of(found)


@compiled
def _with_availability(slug: str, buyer: str) -> ProductQuerySet:
    return with_availability(Product.objects.filter(slug=slug).order_by(), buyer)


def find_product(slug: str, buyer: str) -> Any:
    """The shop's product with this slug, and all that its page shows to the buyer; None if none.

    It comes from one statement, so its numbers belong together: the availability
    (``availability_of``), ``in_basket`` and ``units_in_basket`` (the units of it and of all
    products in the buyer's basket), and ``is_in_open_order``, of the buyer.
    """
    return _with_buyer(slug=slug, buyer=buyer).first()


@compiled
def _with_buyer(slug: str, buyer: str) -> ProductQuerySet:
    in_basket = open_holds(buyer, OuterRef("pk"))
    open_orders = Order.objects.pending().of_buyer(buyer)
    product = Product.objects.catalogue().filter(slug=slug).order_by()
    return with_availability(product, buyer).annotate(
        in_basket=_sum_of(in_basket),
        units_in_basket=_sum_of(open_holds(buyer)),
        is_in_open_order=Exists(open_orders.with_product(OuterRef("pk"))),
    )


def question_of_product(slug: str) -> Question[list[Product]]:
    """The statement that reads the shop's product with this slug: a list of one, or of none."""
    return _in_catalogue(slug=slug).question()


def find_in_catalogue(slug: str) -> Product | None:
    """The shop's product with this slug."""
    return _in_catalogue(slug=slug).first()


@compiled
def _in_catalogue(slug: str) -> ProductQuerySet:
    return Product.objects.catalogue().filter(slug=slug).order_by()


def _sum_of(holds: ReservationQuerySet) -> Coalesce:
    """The units of these holds of one buyer, in a query."""
    units = holds.order_by().values("buyer").annotate(units=Sum("quantity")).values("units")
    return Coalesce(Subquery(units), 0)


class Found:
    """The first MOST_LISTED products that were found; a list for ``Paginator``.

    Nobody turns more pages. Counting all, and passing all that come before a page, would take as
    long as the shop has products.
    """

    def __init__(self, products: Results[Product] | ProductQuerySet) -> None:
        self._products = products

    def __len__(self) -> int:
        return self.count()

    def __getitem__(self, part: slice) -> Any:
        return self._products[part]

    def __iter__(self) -> Iterator[Any]:
        return iter(self[0:MOST_LISTED])

    def count(self) -> int:
        return min(self._counted, MOST_LISTED)

    @property
    def are_more(self) -> bool:
        """Whether more were found than are in the list."""
        return self._counted > MOST_LISTED

    @cached_property
    def _counted(self) -> int:
        if isinstance(self._products, Results):
            return self._products.count_up_to(MOST_LISTED + 1)
        return self._products.order_by().values("pk")[: MOST_LISTED + 1].count()


def search(
    words: Collection[str], order: Sequence[str], *, only_in_stock: bool = False, buyer: str = ""
) -> Found:
    """The products for sale that have every word in name, description or SKU.

    ``order`` names the fields to sort by.
    """
    if not words:
        return Found(_all_for_sale(tuple(order), only_in_stock)(buyer=buyer))
    products = _for_sale(order, only_in_stock, buyer)
    for word in words:
        products = products.filter(
            Q(name__icontains=word) | Q(description__icontains=word) | Q(sku__icontains=word)
        )
    return Found(products)


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
