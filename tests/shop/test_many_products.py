"""Lists, jobs and searches read no more rows in a shop with very many products and orders."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test import Client

from inventory import reservations
from inventory.models import Product, Reservation
from shop import catalogue, orders
from shop.forms import SearchForm
from tests.concurrency import lapse
from tests.conftest import MakeProduct
from tests.plans import count_work
from tests.shop.orders.steps import place

pytestmark = pytest.mark.django_db

MANY = 5000
MOST_ROWS = 500

ADD_PRODUCTS = """
    INSERT INTO inventory_product (sku, slug, name, description, price, picture, stock,
        units_received, version, backstop, low_stock_threshold, strategy, is_active, is_exhibit,
        created_at)
    SELECT 'many-' || n, 'many-' || n, 'Lamp ' || n, '', 1 + n % 90, '', 0, 0, 0, true, 0, '', true,
        false, now() - make_interval(secs => n)
    FROM generate_series(1, %s) AS n
"""


ADD_RESERVATIONS = """
    INSERT INTO inventory_reservation (id, product_id, quantity, unit_price, status, buyer,
        expires_at, strategy, returned, decided_at)
    SELECT gen_random_uuid(), %(product)s, 1, 1, %(status)s, 'b' || n, now() + interval '9 min',
        'many', 0, CASE WHEN %(status)s <> 'HELD' THEN now() END
    FROM generate_series(1, %(number)s) AS n
"""


def add_reservations(product: Product, status: str) -> None:
    """Add MANY reservations of a unit each; the product's own figures stay."""
    values: dict[str, Any] = {"product": product.pk, "status": status, "number": MANY}
    with connection.cursor() as cursor:
        cursor.execute(ADD_RESERVATIONS, values)


@pytest.fixture
def many_products(db: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(ADD_PRODUCTS.replace("% ", "%% "), [MANY])
        cursor.execute("ANALYZE inventory_product")


@pytest.mark.parametrize("sort", SearchForm.SORTS)
@pytest.mark.usefixtures("many_products")
def test_a_page_of_the_list_reads_no_other_products(
    client: Client, monkeypatch: pytest.MonkeyPatch, sort: str
) -> None:
    monkeypatch.setattr(catalogue, "MOST_LISTED", 100)
    with count_work() as work:
        assert client.get(f"/?sort={sort}&page=3").status_code == 200
    assert work.rows < MOST_ROWS, work.dearest[1]


@pytest.mark.usefixtures("many_products")
def test_the_help_page_reads_only_products_with_a_strategy_of_their_own(client: Client) -> None:
    Product.objects.filter(sku="many-7").update(strategy="naive")
    with count_work() as work:
        page = client.get("/help/stock/")
    assert [strategy.slug for strategy in page.context["unsafe"]] == ["naive"]
    assert work.rows < MOST_ROWS, work.dearest[1]


@pytest.mark.usefixtures("many_products")
def test_the_sweep_reads_no_products_without_holds(make_product: MakeProduct) -> None:
    product = make_product(5)
    hold = reservations.reserve(product, 1, buyer="b")
    lapse(hold)
    with count_work() as work:
        assert reservations.expire_lapsed() == (1, 1)
    assert work.rows < MOST_ROWS, work.dearest[1]


def test_the_list_says_that_there_are_more(
    client: Client, make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "MOST_LISTED", 24)
    for number in range(24):
        make_product(1, name=f"Lamp {number:02}")
    found, listed = client.get("/?q=lamp&page=2"), client.get("/?page=2")
    assert "24 results" in found.content.decode()
    for page in (found, listed):
        assert "More than" not in page.content.decode()
        assert "These pages show" not in page.content.decode()

    make_product(1, name="Lamp 24")
    found, listed = client.get("/?q=lamp&page=2"), client.get("/?page=2")
    assert "More than 24 results" in found.content.decode()
    for page in (found, listed):
        assert "These pages show the first 24 products." in page.content.decode()
        assert "Lamp 23" in page.content.decode()
        assert "Lamp 24" not in page.content.decode()
        assert "page=3" not in page.content.decode()


def test_whether_an_order_is_abandoned_is_asked_of_its_own_holds(make_product: MakeProduct) -> None:
    """In a rush very many others hold units, of which the planner's statistics know nothing yet."""
    waiting = [place((make_product(1), 1)) for _ in range(10)]
    crowded = make_product(2 * MANY)
    add_reservations(crowded, "SOLD")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE inventory_reservation SET status = 'SOLD'")
        cursor.execute("ANALYZE inventory_reservation, shop_order, shop_orderline, shop_payment")
        cursor.execute("UPDATE inventory_reservation SET status = 'HELD' WHERE strategy <> 'many'")
    add_reservations(crowded, "HELD")
    Product.objects.filter(pk=crowded.pk).update(stock=0)
    with count_work() as work:
        assert orders.abandoned_orders() == []
    assert work.rows < MOST_ROWS, work.dearest[1]
    with count_work() as work:
        orders.close_abandoned(waiting[0].pk)
    assert work.rows < MOST_ROWS, work.dearest[1]


def test_staff_find_a_buyers_reservations_by_indexes(
    admin_client: Client, make_product: MakeProduct
) -> None:
    product = make_product(10)
    for status in Reservation.Status:
        hold = reservations.reserve(product, 1, buyer="wanted")
        if status == Reservation.Status.SOLD:
            reservations.confirm(hold.pk)
        elif status == Reservation.Status.RELEASED:
            reservations.release(hold.pk)
        elif status == Reservation.Status.EXPIRED:
            lapse(hold)
            reservations.expire([hold.pk])
    add_reservations(product, "EXPIRED")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE inventory_reservation")
    with count_work() as work:
        page = admin_client.get("/admin/inventory/reservation/?q=wanted")
    assert len(page.context["cl"].result_list) == 4
    assert work.rows < MOST_ROWS, work.dearest[1]
