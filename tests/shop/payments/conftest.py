"""After each test, money and goods agree, and no job is left to the next test."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.db import connection

from shop import orders
from shop.models import DemoBankCharge, Order
from tests.conftest import MakeProduct
from tests.shop.admin.conftest import staff
from tests.shop.orders.conftest import money_and_goods_agree_after_each_test
from tests.shop.orders.steps import APPROVE, at_bank, place

__all__ = ["money_and_goods_agree_after_each_test", "staff"]


@pytest.fixture
def served_at() -> Iterator[str]:
    """The shop, reachable by HTTP at this address."""

    class Handler(WSGIRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    with make_server("127.0.0.1", 0, WSGIHandler(), handler_class=Handler) as server:

        def serve() -> None:
            server.serve_forever(poll_interval=0.05)
            connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def order(make_product: MakeProduct) -> Order:
    """An order of two units for €25.00."""
    return place((make_product(5, price=Decimal("10.00")), 2))


@pytest.fixture
def paid(order: Order) -> Order:
    """An order that is paid."""
    at_bank(order, APPROVE)
    return orders.settle(order.pk)


@pytest.fixture
def charge(paid: Order, served_at: str) -> DemoBankCharge:
    """The charge of a paid order, whose shop gets the bank's messages."""
    DemoBankCharge.objects.update(return_url=f"{served_at}/orders/x/")
    return DemoBankCharge.objects.get()
