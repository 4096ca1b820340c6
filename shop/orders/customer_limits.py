"""``max_per_buyer`` at the checkout: a second browser is a new key, but has the same e-mail."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from django.db.models.functions import Now

from inventory.locking import queue_buyer
from inventory.models import Product, Reservation
from inventory.reservations import expire
from shop.exceptions import LimitPerCustomer


def email_key(email: str) -> str:
    """The e-mail address as limits compare it: without letter case and surrounding space."""
    return email.strip().casefold()


def queue_customer(products: Iterable[Product], email_key: str) -> None:
    """Wait until no other request decides on an order of this address for a limited product.

    Call it before taking any lock of ``inventory.locking``. The queue is ours until the transaction
    ends: units that are counted after this call can't change meanwhile.
    """
    for product in sorted(products, key=lambda product: product.pk):
        if product.max_per_buyer is not None:
            queue_buyer(product.pk, f"e-mail {email_key}")


def take_back_lapsed(
    product_ids: Iterable[int], *, buyer: str, email_key: str, but: Iterable[UUID] = ()
) -> int:
    """Take the customer's lapsed holds of these products back, and return how many.

    A lapsed hold can still be paid for, so it counts until it is taken back. Holds in ``but`` stay:
    they are about to be ordered. Each product has a transaction of its own: call this outside of
    one.
    """
    # Two queries, each by an index of its own: joined by OR they would use none.
    of_key = Reservation.objects.lapsed().of_buyer(buyer)
    of_address = Reservation.objects.held().filter(
        expires_at__lte=Now(), order_line__order__email_key=email_key
    )
    products = set(product_ids)
    found = [*of_key.values_list("pk", "product_id"), *of_address.values_list("pk", "product_id")]
    ids = {pk for pk, product_id in found if product_id in products} - set(but)
    return expire(ids) if ids else 0


def check_customer(
    products: Iterable[Product], *, buyer: str, email_key: str, more: dict[int, int] | None = None
) -> None:
    """Raise LimitPerCustomer if the customer has more units of a product than it allows.

    We count the units of the buyer's key and of orders for the e-mail address: those held, and
    those sold and neither returned nor written off. ``more`` are units by product that are about
    to be taken.
    """
    for product in products:
        if product.max_per_buyer is None:
            continue
        # Two queries, as above.
        of_key = Reservation.objects.counted().of_buyer(buyer, product)
        of_address = Reservation.objects.filter(order_line__order__email_key=email_key)
        units = of_key.units() + of_address.exclude(buyer=buyer).only_of(product).units()
        units += (more or {}).get(product.pk, 0)
        if units > product.max_per_buyer:
            raise LimitPerCustomer(
                f"At most {product.max_per_buyer} of {product.name} per customer, in all orders "
                f"together: this would make it {units}."
            )
