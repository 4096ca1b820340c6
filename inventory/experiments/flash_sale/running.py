"""Having a flash sale run in the background, by whatever queue of jobs the project has.

The project says how, by its setting INVENTORY_QUEUE_FLASH_SALE: the dotted path of a function
that takes the sale's primary key, and sees to it that ``sale.run_planned`` is called with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.db import IntegrityError
from django.utils.module_loading import import_string

from inventory.database import atomic
from inventory.experiments.flash_sale.sale import Parameters, plan
from inventory.experiments.models import FlashSale

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser


def is_possible() -> bool:
    """Whether the project has said how."""
    return bool(getattr(settings, "INVENTORY_QUEUE_FLASH_SALE", ""))


def queue(
    parameters: Parameters,
    *,
    started_by: AbstractBaseUser | None = None,
    idempotency_key: str | None = None,
) -> FlashSale:
    """Put the sale on record and queue it, in one transaction; return it.

    Again with the same ``idempotency_key``, it queues nothing and returns the first sale
    (``is_repeated``).

    Raises InvalidParameters.
    """
    queue_sale = import_string(settings.INVENTORY_QUEUE_FLASH_SALE)
    try:
        with atomic():
            sale = plan(parameters, started_by=started_by, idempotency_key=idempotency_key)
            queue_sale(sale.pk)
    except IntegrityError:
        earlier = FlashSale.objects.filter(idempotency_key=idempotency_key).first()
        if idempotency_key is None or earlier is None:
            raise
        earlier.is_repeated = True
        return earlier
    return sale
