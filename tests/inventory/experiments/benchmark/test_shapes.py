"""The products that a benchmark makes."""

from __future__ import annotations

import pytest

from inventory import alerts
from inventory.experiments.benchmark.shapes import HOT, SHAPES, exhibits
from inventory.models import Product, StockAlert

pytestmark = pytest.mark.django_db(transaction=True)


def test_they_go_with_the_alerts_that_a_worker_has_raised_meanwhile() -> None:
    """The row without a guard breaks the law, and a worker beside it checks the law."""
    with exhibits(SHAPES[HOT], "alerted") as [product]:
        Product.objects.filter(pk=product.pk).update(stock=0)
        alerts.check_all()
        assert StockAlert.objects.filter(product=product).exists()
    assert not Product.objects.exists()
    assert not StockAlert.objects.exists()
