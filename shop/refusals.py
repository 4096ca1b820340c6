"""Refusals on record: buyers who were refused units, since there were too few of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from django.db import connection
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
        record(product, [refused.requested])
        raise


def record(product: Product, quantities: Iterable[int]) -> None:
    """Put refusals on record, each of so many units.

    In SQL, since most requests for a product that is sold out come here.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO shop_refusal (product_id, quantity) SELECT %s, unnest(%s::int[])",
            [product.pk, list(quantities)],
        )


def delete_old_refusals() -> None:
    """Delete refusals that are too old for any chart."""
    Refusal.objects.filter(refused_at__lt=Now() - KEEP).delete()
