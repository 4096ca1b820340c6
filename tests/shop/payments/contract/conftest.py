"""The contract test has checks of its own, since here money goes at the provider, too."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.shop.orders.steps import delete_jobs


@pytest.fixture(autouse=True)
def money_and_goods_agree_after_each_test(transactional_db: None) -> Iterator[None]:
    yield
    delete_jobs()
