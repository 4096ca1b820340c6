"""``max_per_buyer`` at checkout: a second browser is a second key, but the same e-mail address."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from django.db.models import Q

from inventory.locking import queue_buyer
from inventory.models import Product, Reservation
from inventory.reservations import expire
from shop.exceptions import LimitPerCustomer


def email_key(email: str) -> str:
    """The address as limits compare it: letter case and surrounding space don't matter."""
    return email.strip().casefold()


def queue_customer(products: Iterable[Product], email_key: str) -> None:
    """Wait until no other order for this address and a limited product is being decided on.

    Taken before any lock of ``inventory.locking``, and held until the transaction ends: what
    is counted after it stands still.
    """
    for product in sorted(products, key=lambda product: product.pk):
        if product.max_per_buyer is not None:
            queue_buyer(product.pk, f"e-mail {email_key}")


def take_back_lapsed(
    product_ids: Iterable[int], *, buyer: str, email_key: str, but: Iterable[UUID] = ()
) -> int:
    """Take the customer's lapsed holds of these products back, and return how many.

    Nobody but the worker may have come by since; a lapsed hold could still be paid for, and so
    counts until then. Not those in ``but``, which are about to be ordered. In transactions of
    its own: call it outside of one.
    """
    lapsed = Reservation.objects.lapsed().filter(product__in=product_ids).exclude(pk__in=set(but))
    # Each by an index of its own; OR between them would use none.
    of_key = lapsed.filter(buyer=buyer)
    of_address = lapsed.filter(order_line__order__email_key=email_key)
    ids = {pk for holds in (of_key, of_address) for pk in holds.values_list("pk", flat=True)}
    return expire(ids) if ids else 0


def check_customer(
    products: Iterable[Product], *, buyer: str, email_key: str, more: dict[int, int] | None = None
) -> None:
    """Raise LimitPerCustomer if the customer has more units of one than it allows.

    Counted are the units that the buyer's key and orders for the address have (held, or sold and
    neither returned nor written off), and ``more``: units by product that are about to be taken.
    """
    for product in products:
        if product.max_per_buyer is None:
            continue
        of_customer = Reservation.objects.filter(
            Q(buyer=buyer) | Q(order_line__order__email_key=email_key), product=product
        )
        units = of_customer.units() + (more or {}).get(product.pk, 0)
        if units > product.max_per_buyer:
            raise LimitPerCustomer(
                f"At most {product.max_per_buyer} of {product.name} per customer, in all orders "
                f"together: this would make it {units}."
            )
