"""The holders of a product's units, by network address; and letting their holds go in one step.

It is for staff who see that a product is reserved and not bought. The addresses are those of
``network_limits``: a hold that was made without a limit per address has none.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Count, Min, OuterRef, Q, QuerySet, Subquery, Sum, Value
from django.db.models.functions import Coalesce

from inventory.models import Product, Reservation
from shop import orders
from shop.holds import release_unordered
from shop.models import HoldAddress, Order
from shop.payments.base import ProviderUnavailable

log = logging.getLogger(__name__)

UNKNOWN = "unknown"
RELEASED_AT_ONCE = 200  # the product's buyers wait for one such batch at most
IN_ORDER = Q(order_line__isnull=False)


@dataclass(frozen=True)
class Holder:
    """A network address that holds units of a product."""

    network: str
    """``UNKNOWN`` for all holds without an address."""
    buyers: int
    """Number of cookies that came from there."""
    holds: int
    units: int
    units_in_orders: int
    """Those of ``units`` that are in orders waiting for payment."""
    since: datetime
    """The time when the oldest hold was made."""

    @property
    def units_in_baskets(self) -> int:
        return self.units - self.units_in_orders


@dataclass(frozen=True)
class Released:
    """The outcome of a release."""

    holds: int
    units: int
    """Units that were in baskets."""
    orders: int
    """Orders cancelled."""


def holders_of(product: Product, networks: Collection[str] | None = None) -> list[Holder]:
    """The holders of the product's units, those with the most first; or only these networks.

    Their units add up to the product's held units: lapsed holds count until they are taken back.
    """
    rows = (
        _held_from(product, networks)
        .order_by()
        .values("network")
        .annotate(
            buyers=Count("buyer", distinct=True),
            holds=Count("pk"),
            units=Sum("quantity"),
            units_in_orders=Coalesce(Sum("quantity", filter=IN_ORDER), 0),
            since=Min("created_at"),
        )
        .order_by("-units", "network")
    )
    return [Holder(**row) for row in rows]


def release(
    product: Product, networks: Collection[str], *, cancel_orders: bool = False
) -> Released:
    """Release the product's holds that these networks have in baskets; return the outcome.

    Orders keep their holds: an order without them would be empty. ``cancel_orders`` also cancels
    the unpaid orders, with all that is in them. An order stays if its payment provider can't be
    reached.
    """
    in_baskets = _held_from(product, networks).filter(order_line=None).order_by("pk")
    ids = list(in_baskets.values_list("pk", flat=True))
    let_go: list[Reservation] = []
    for first in range(0, len(ids), RELEASED_AT_ONCE):
        let_go += release_unordered(ids[first : first + RELEASED_AT_ONCE])
    return Released(
        holds=len(let_go),
        units=sum(hold.quantity for hold in let_go),
        orders=_cancel_orders(product, networks) if cancel_orders else 0,
    )


def _cancel_orders(product: Product, networks: Collection[str]) -> int:
    """Cancel the unpaid orders in which these networks hold the product; return how many."""
    in_orders = _held_from(product, networks).filter(IN_ORDER).order_by()
    order_ids = set(in_orders.values_list("order_line__order_id", flat=True))
    cancelled = 0
    for order_id in sorted(order_ids):
        try:
            cancelled += orders.cancel_unpaid(order_id)
        except ProviderUnavailable:
            number = Order.objects.values_list("number", flat=True).get(pk=order_id)
            log.warning(
                "Order %s is not cancelled: its payment provider can't be reached.",
                number,
                extra={"order": number, "product": product.sku},
            )
    return cancelled


def _held_from(product: Product, networks: Collection[str] | None) -> QuerySet[Any]:
    """The product's holds from these networks (None: from all), each with its ``network``."""
    address = HoldAddress.objects.filter(pk=OuterRef("pk")).values("network")
    held = Reservation.objects.all_held().filter(product=product)
    with_network = held.annotate(network=Coalesce(Subquery(address), Value(UNKNOWN)))
    return with_network if networks is None else with_network.filter(network__in=networks)
