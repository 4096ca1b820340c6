"""Buyers who were told that there are too few units: what could have been sold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from django.db.models.functions import Now

from inventory.exceptions import InsufficientStock
from inventory.models import Product
from shop.models import Refusal

KEEP = timedelta(days=30)


@contextmanager
def record_refusal(product: Product) -> Iterator[None]:
    """Put it on record if what is done inside is refused for want of units."""
    try:
        yield
    except InsufficientStock as refused:
        Refusal.objects.create(product=product, quantity=refused.requested)
        raise


def delete_old_refusals() -> None:
    """Delete those that no chart shows any more."""
    Refusal.objects.filter(refused_at__lt=Now() - KEEP).delete()
