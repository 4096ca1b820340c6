"""The races, where the project's routers send the stock to another database than ``default``."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from io import StringIO

import pytest
from django.conf import LazySettings
from django.core.management import call_command
from django.db import connections
from django.db.models import Model

from inventory.models import Product, Reservation
from tests.conftest import MakeProduct

STOCK = "stock"

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", STOCK]),
    pytest.mark.slow,
]


class StockRouter:
    def db_for_read(self, model: type[Model], **hints: object) -> str:
        return STOCK

    db_for_write = db_for_read


@pytest.fixture(scope="module", autouse=True)
def second_alias(django_db_setup: None) -> Iterator[None]:
    """The tests' own database under a second name, before Django looks which names there are."""
    connections.settings[STOCK] = copy.deepcopy(connections.settings["default"])
    yield
    connections[STOCK].close()
    del connections[STOCK], connections.settings[STOCK]


@pytest.fixture(autouse=True)
def routed(settings: LazySettings) -> None:
    settings.DATABASE_ROUTERS = [StockRouter()]


def test_races_leave_the_real_stock_alone(make_product: MakeProduct) -> None:
    make_product(3, sku="RACE")
    out = StringIO()
    call_command("races", "conditional_update", "--buyers=2", "--budget=2", stdout=out, stderr=out)
    assert "conditional_update" in out.getvalue()
    product = Product.objects.get()
    assert (product.stock, product.units_received) == (3, 3)
    assert not Reservation.objects.exists()
