"""Pages, reservations and refusals cost the same for a product with very many holds.

No worker runs here: nobody takes lapsed holds back, nobody deletes the addresses of ended ones.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import F
from django.test import Client

from inventory import reservations, strategies
from inventory.holds import Request, take_back_lapsed
from inventory.models import Product, Reservation
from inventory.snapshots import available_now
from inventory.strategies import combined
from shop.catalogue import LAPSED_COUNTED, availability_now
from tests.concurrency import lapse
from tests.conftest import MakeProduct
from tests.plans import Work, count_work
from tests.shop.orders.steps import order_holds

pytestmark = pytest.mark.django_db

MANY, FEW = 20_000, 10
ALIVE, LAPSED = 600, -600  # seconds left
KINDS = {"alive": [ALIVE], "lapsed": [LAPSED], "half": [ALIVE, LAPSED]}
# A statement that goes through all of the product's holds reads 10,000 rows at least.
MOST_ROWS = 1000

ADD_HOLDS = """
    INSERT INTO inventory_reservation (id, product_id, quantity, unit_price, status, buyer,
        expires_at, idempotency_key, strategy, returned, created_at)
    SELECT gen_random_uuid(), %(product)s, 1, 9.90, %(status)s,
        concat_ws(' ', %(product)s, i, %(seconds)s),
        now() + make_interval(secs => %(seconds)s + i / 1000.0), gen_random_uuid(), 'combined', 0,
        now() + make_interval(secs => %(seconds)s - 1200 + i / 1000.0)
    FROM generate_series(1, %(number)s) AS i
"""


def add_holds(product: Product, number: int, *, seconds: int, status: str = "HELD") -> None:
    """Add holds of a unit each, and the units that they hold."""
    with connection.cursor() as cursor:
        values: dict[str, Any] = {
            "product": product.pk,
            "number": number,
            "seconds": seconds,
            "status": status,
        }
        cursor.execute(ADD_HOLDS, values)
    if status == "EXPIRED":  # they hold nothing
        return
    Product.objects.filter(pk=product.pk).update(units_received=F("units_received") + number)
    product.movements.create(units=number, reason="DELIVERY", stock_before=0, stock_after=number)


def analyze() -> None:
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE inventory_reservation, inventory_product, shop_holdaddress")


@pytest.fixture(
    params=[
        ("alive", "stale", "SOLD"),
        ("lapsed", "stale", "SOLD"),
        ("half", "stale", "EXPIRED"),
        ("half", "fresh", "SOLD"),
    ],
    ids=" ".join,
)
def two_products(request: pytest.FixtureRequest, make_product: MakeProduct) -> list[Product]:
    """A product with ten holds, and one with very many.

    With stale statistics, the planner knows a table in which nobody holds anything: so it is when
    a rush begins.
    """
    kind, statistics, before = request.param
    add_holds(make_product(0), 3000, seconds=LAPSED, status=before)
    analyze()
    both = [make_product(500), make_product(500)]
    for product, number in zip(both, [FEW, MANY], strict=True):
        for seconds in KINDS[kind]:
            add_holds(product, number // len(KINDS[kind]), seconds=seconds)
    for _ in range(3):
        add_holds(make_product(5), FEW, seconds=ALIVE)
    if statistics == "fresh":
        analyze()
    return both


# Each scenario prepares the product, and returns the request whose cost counts

Act = Callable[[], object]
Scenario = Callable[[Product], Act]


def post(client: Client, product: Product, quantity: int = 1) -> int:
    form = {"product": product.slug, "quantity": quantity, "key": uuid.uuid4()}
    return client.post("/basket/holds/", form).status_code


def change(product: Product, **fields: Any) -> None:
    """Change the product; a smaller ``stock`` is a removal."""
    if "stock" in fields:
        fields["units_received"] = F("units_received") + fields["stock"] - F("stock")
    Product.objects.filter(pk=product.pk).update(**fields)


def buyer_with(product: Product, quantity: int = 1) -> Client:
    """A buyer who holds units of the product."""
    client = Client()
    assert post(client, product, quantity) == 302
    return client


def latest(product: Product) -> Reservation:
    return Reservation.objects.filter(product=product).latest("created_at")


def page(stock: int, path: str) -> Scenario:
    def prepare(product: Product) -> Act:
        client = buyer_with(product)
        change(product, stock=stock)
        return lambda: client.get(path.format(product.slug))

    return prepare


def with_unpaid_order(path: str) -> Scenario:
    """The buyer has an order that waits for its payment, and a hold in the basket."""

    def prepare(product: Product) -> Act:
        client = buyer_with(product)
        order_holds([latest(product)], buyer=latest(product).buyer)
        assert post(client, product) == 302
        return lambda: client.get(path.format(product.slug))

    return prepare


def new_visitor(product: Product) -> Act:
    change(product, stock=0)
    return lambda: Client().get(f"/products/{product.slug}/")


def reserve(strategy: str, limit: int | None) -> Scenario:
    def prepare(product: Product) -> Act:
        change(product, strategy=strategy, max_per_buyer=limit)
        return lambda: post(Client(), product)

    return prepare


def ask_without_stock(limit: int | None, quantity: int) -> Scenario:
    """Reserve from the lapsed holds, or be refused if there are none."""

    def prepare(product: Product) -> Act:
        change(product, stock=0, max_per_buyer=limit)
        return lambda: post(Client(), product, quantity)

    return prepare


def over_the_limit(product: Product) -> Act:
    change(product, max_per_buyer=2)
    client = buyer_with(product)
    return lambda: post(client, product, 2)


def own_hold_lapsed(product: Product) -> Act:
    """The buyer's lapsed hold counts until it is taken back."""
    change(product, max_per_buyer=2)
    client = buyer_with(product, 2)
    lapse(latest(product))
    return lambda: post(client, product, 2)


def page_with_lapsed(path: str) -> Scenario:
    def prepare(product: Product) -> Act:
        client = buyer_with(product, 2)
        lapse(latest(product))
        change(product, stock=0)
        return lambda: client.get(path)

    return prepare


def order(product: Product) -> Act:
    change(product, max_per_buyer=4)
    holds = [reservations.reserve(product, 2, buyer="Ada") for _ in range(2)]
    return lambda: order_holds(holds, buyer="Ada")


def order_over_the_limit(product: Product) -> Act:
    """Another hold of the buyer has lapsed, and another order of the address."""
    change(product, max_per_buyer=9)
    by_email = reservations.reserve(product, 2, buyer="Ada's other browser")
    order_holds([by_email], buyer=by_email.buyer, email="ada@example.org")
    own, wanted = (reservations.reserve(product, 2, buyer="Ada") for _ in range(2))
    for hold in (by_email, own):
        lapse(hold)
    change(product, max_per_buyer=2)
    return lambda: order_holds([wanted], buyer="Ada", email="ada@example.org")


def in_batches(strategy_quantity: int) -> Scenario:
    """The batches of ``combined``: inside a test's transaction it serves buyers one by one."""

    def prepare(product: Product) -> Act:
        change(product, stock=1)
        batch = [
            combined.Waiting(
                Request(
                    product_id=product.pk,
                    sku=product.sku,
                    quantity=strategy_quantity,
                    buyer=f"buyer {number}",
                    hold_for=timedelta(minutes=1),
                    strategy="combined",
                )
            )
            for number in range(20)
        ]
        return lambda: combined.serve(batch)

    return prepare


def preview_of_a_removal(product: Product) -> Act:
    return lambda: available_now(product.pk, needed=501)


SCENARIOS: dict[str, Scenario] = {
    "page, first visit": new_visitor,
    "page, basket": page(500, "/products/{}/"),
    "page, no stock": page(0, "/products/{}/"),
    "page, unpaid order": with_unpaid_order("/products/{}/"),
    "basket, unpaid order": with_unpaid_order("/basket/"),
    "checkout, unpaid order": with_unpaid_order("/checkout/"),
    "orders": with_unpaid_order("/orders/"),
    "fragment": page(0, "/products/{}/stock/"),
    "list": page(0, "/"),
    "list, in stock": page(0, "/?in_stock=on"),
    "basket": page(0, "/basket/"),
    "checkout": page(0, "/checkout/"),
    "basket with lapsed": page_with_lapsed("/basket/"),
    "checkout with lapsed": page_with_lapsed("/checkout/"),
    "a unit from lapsed": ask_without_stock(None, 1),
    "units from lapsed, limit": ask_without_stock(5, 5),
    "over the limit": over_the_limit,
    "own hold lapsed": own_hold_lapsed,
    "order": order,
    "order over the limit": order_over_the_limit,
    "batch": in_batches(1),
    "batch of large requests": in_batches(7),
    "preview of a removal": preview_of_a_removal,
} | {
    f"reserve, {strategy.slug}, limit {limit}": reserve(strategy.slug, limit)
    for strategy in strategies.all_strategies()
    if strategy.joins_transaction  # the others take units in the same ways
    for limit in (None, 2)
}


def work_of(scenario: Scenario, product: Product) -> Work:
    """Prepare and act, count the work of the act, and undo all."""
    with transaction.atomic():
        act = scenario(product)
        with count_work() as work:
            act()
        transaction.set_rollback(True)
    return work


@pytest.fixture
def sold_out_long_ago(make_product: MakeProduct) -> Product:
    """A product whose holds have all lapsed, and half of them are taken back already.

    PostgreSQL hasn't cleaned up yet: its indexes still have those that were taken back.
    """
    product = make_product(0)
    add_holds(product, MANY, seconds=LAPSED)
    analyze()  # else PostgreSQL may take the table for as empty as in the test before
    while Reservation.objects.all_lapsed().count() > MANY / 2:
        take_back_lapsed(product.pk)
    analyze()
    return product


def test_a_page_does_not_pass_all_that_was_taken_back(sold_out_long_ago: Product) -> None:
    with count_work() as work:
        available = availability_now(sold_out_long_ago)
    assert str(available) == f"At least {MANY // 2 + LAPSED_COUNTED} left"
    assert work.blocks < 30, work.dearest[1]


def test_the_sweep_looks_once_into_the_index_for_each_product(make_product: MakeProduct) -> None:
    products = [make_product(1) for _ in range(3)]
    add_holds(products[0], MANY, seconds=LAPSED)
    add_holds(products[1], MANY, seconds=ALIVE)
    with count_work() as work:
        assert list(Product.objects.with_lapsed_holds()) == products[:1]
    assert work.rows < 10, work.dearest[1]


def test_all_requests_read_a_bounded_number_of_holds(two_products: list[Product]) -> None:
    few, many = two_products
    for name, scenario in SCENARIOS.items():
        of_few, of_many = work_of(scenario, few), work_of(scenario, many)
        assert of_few.rows < MOST_ROWS, f"{name}: {of_few.dearest[1]}"
        assert of_many.rows < MOST_ROWS, f"{name}: {of_many.dearest[1]}"
        # A hundred lapsed holds are counted, and fifty are taken back, not ten: each changes all
        # indexes, which read some blocks.
        assert of_many.blocks < 2 * of_few.blocks + 50 * 30, (name, of_few.blocks, of_many)
