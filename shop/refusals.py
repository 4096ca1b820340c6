"""Refusals on record: buyers who were refused units, since there were too few of them."""

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
    """Put a refusal on record if the block raises InsufficientStock."""
    try:
        yield
    except InsufficientStock as refused:
        Refusal.objects.create(product=product, quantity=refused.requested)
        raise


def delete_old_refusals() -> None:
    """Delete refusals that are too old for any chart."""
    Refusal.objects.filter(refused_at__lt=Now() - KEEP).delete()
