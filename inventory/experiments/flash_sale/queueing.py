"""Queues flash sales, to be run in the background by the project's queue of jobs.

The project's setting INVENTORY_QUEUE_FLASH_SALE is the dotted path of a function. It gets the
sale's primary key, and queues a job that calls ``sale.run_planned`` for this sale.
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


def is_configured() -> bool:
    """Whether the project has set INVENTORY_QUEUE_FLASH_SALE."""
    return bool(getattr(settings, "INVENTORY_QUEUE_FLASH_SALE", ""))


def queue(
    parameters: Parameters,
    *,
    started_by: AbstractBaseUser | None = None,
    idempotency_key: str | None = None,
) -> FlashSale:
    """Store the sale and queue it, in one transaction; return it.

    A second call with the same ``idempotency_key`` queues nothing, and returns the first sale with
    ``is_repeated`` set.

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
