"""A bank that no restore changes, and a backup."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal

import pytest
from django.conf import LazySettings

from shop.payments.base import RefundStatus
from tests.shop.orders.steps import delete_jobs
from tests.shop.reconcile.backup import Backup
from tests.shop.reconcile.memory_bank import MemoryBank


@pytest.fixture(autouse=True)
def bank(settings: LazySettings) -> Iterator[type[MemoryBank]]:
    settings.PAYMENT_PROVIDER = "tests.shop.reconcile.memory_bank.MemoryBank"
    settings.SHIPPING_COST = Decimal("5.00")
    yield MemoryBank
    MemoryBank.charges.clear()
    MemoryBank.is_down = False
    MemoryBank.is_another_account = False
    MemoryBank.refunds_as = RefundStatus.DONE


@pytest.fixture
def back_up(transactional_db: None) -> Iterator[Callable[[], Backup]]:
    """A function that makes the backup of the test's database."""
    made: list[Backup] = []

    def make() -> Backup:
        made.append(Backup())
        return made[0]

    yield make
    for backup in made:
        backup.drop()
    delete_jobs()
