"""``max_per_buyer`` at checkout: a second browser is a second key, but the same e-mail address."""

from __future__ import annotations

from collections.abc import Iterable

from django.db.models import Q

from inventory.locking import queue_buyer
from inventory.models import Product, Reservation
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


def check_customer(
    products: Iterable[Product], *, buyer: str, email_key: str, more: dict[int, int] | None = None
) -> None:
    """Raise LimitPerCustomer if the customer has more units of one than it allows.

    Counted are held and sold units of the buyer's key and of orders for the address, and
    ``more``: units by product that are about to be taken.
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
