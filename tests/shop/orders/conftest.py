"""After each test, money and goods agree, and no job is left to the next test."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest
from django.conf import LazySettings

from tests.shop.orders.steps import assert_money_and_goods_agree, delete_jobs


@pytest.fixture(autouse=True)
def money_and_goods_agree_after_each_test(
    request: pytest.FixtureRequest, settings: LazySettings
) -> Iterator[None]:
    settings.SHIPPING_COST = Decimal("5.00")
    settings.PAYMENT_PROVIDER = "demo"
    if request.node.get_closest_marker("django_db") is None:
        yield
        return
    request.getfixturevalue("transactional_db")
    yield
    assert_money_and_goods_agree()
    delete_jobs()
