"""The monitor finds every way in which the law can be broken."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connection

from inventory import monitor
from inventory.models import Product, Reservation, StockAlert, StockMovement
from inventory.reservations import confirm, reserve, return_units
from tests.conftest import MakeProduct

pytestmark = [pytest.mark.django_db, pytest.mark.breaks_law]


def check_stock(*options: str) -> tuple[int, str]:
    out = StringIO()
    try:
        call_command("check_stock", *options, stdout=out)
    except SystemExit as ended:
        return int(ended.code or 0), out.getvalue()
    return 0, out.getvalue()


def test_a_shop_that_keeps_the_law(make_product: MakeProduct) -> None:
    product = make_product(10)
    make_product(0)
    reserve(product, 1, buyer="A")
    return_units(confirm(reserve(product, 4, buyer="B").pk).pk, 1)
    assert monitor.check() == []
    state = monitor.state_of(product.pk)
    assert (state.received, state.available, state.held, state.sold) == (10, 6, 1, 3)
    assert check_stock() == (0, "Every unit is accounted for.\n")


def test_a_lost_update(make_product: MakeProduct) -> None:
    """Fifteen naive buyers of ten laptops all read 10 and write 9: never below zero."""
    product = make_product(10, sku="LAPTOP")
    Reservation.objects.bulk_create(
        Reservation(
            product=product,
            quantity=1,
            unit_price=1,
            status="SOLD",
            buyer=str(n),
            expires_at=product.created_at,
            strategy="naive",
        )
        for n in range(15)
    )
    Product.objects.update(stock=9)
    [state] = monitor.check()
    assert (state.sold, state.available, state.oversold, state.drift) == (15, 9, 5, 14)
    code, out = check_stock()
    assert code == 1
    assert "LAPTOP" in out
    assert "drift +14, oversold 5" in out
    raised = {alert.kind: alert.figures for alert in StockAlert.objects.filter(product=product)}
    assert raised.keys() == {"DRIFT", "OVERSOLD"}
    assert "sold 15: drift +14, oversold 5" in raised["DRIFT"]
    assert "1 product breaks the law" in out


def test_oversold_without_drift(make_product: MakeProduct) -> None:
    product = make_product(1, backstop=False)
    reserve(product, 1, buyer="A")
    Reservation.objects.update(quantity=3)
    Product.objects.update(stock=-2)
    [state] = monitor.check()
    assert (state.oversold, state.drift) == (2, 0)


def test_a_leaked_unit(make_product: MakeProduct) -> None:
    make_product(10)
    Product.objects.update(stock=8)
    [state] = monitor.check()
    assert (state.oversold, state.drift) == (0, -2)


def test_units_that_no_movement_accounts_for(make_product: MakeProduct) -> None:
    make_product(10)
    Product.objects.update(stock=12, units_received=12)
    [state] = monitor.check()
    assert (state.drift, state.unrecorded) == (0, 2)
    assert "+2 received without a movement" in check_stock()[1]


def test_exhibits_are_left_out_unless_asked_for(make_product: MakeProduct) -> None:
    make_product(10, is_exhibit=True)
    Product.objects.update(stock=9)
    assert monitor.check() == []
    assert len(monitor.check(exhibits=True)) == 1
    assert check_stock()[0] == 0
    assert check_stock("--exhibits")[0] == 1


def test_repair_corrects_the_count_and_prints_it(make_product: MakeProduct) -> None:
    make_product(10, sku="LAMP")
    Product.objects.update(stock=7)
    code, out = check_stock("--repair")
    assert (code, out) == (0, "LAMP: stock 7 → 10\nEvery unit is accounted for.\n")
    assert StockMovement.objects.first().reason == StockMovement.Reason.REPAIR  # type: ignore[union-attr]


def test_what_is_oversold_stays_an_error_after_a_repair(make_product: MakeProduct) -> None:
    product = make_product(1)
    reserve(product, 1, buyer="A")
    Reservation.objects.update(quantity=3)
    code, out = check_stock("--repair")
    assert code == 1
    assert "stock 0 → -2" in out
    assert "oversold 2" in out


def test_the_check_is_one_statement_however_many_products(
    make_product: MakeProduct, django_assert_num_queries: object
) -> None:
    for _ in range(5):
        reserve(make_product(3), 1, buyer="A")
    with django_assert_num_queries(1):  # type: ignore[operator]
        monitor.check(exhibits=True)


def test_no_such_product() -> None:
    with pytest.raises(LookupError):
        monitor.state_of(0)
    assert connection.vendor == "postgresql"
