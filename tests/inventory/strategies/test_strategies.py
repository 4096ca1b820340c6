"""The contract that every strategy keeps, and the strategies' declarations."""

from __future__ import annotations

import pytest
from django.db import transaction
from django.db.models import F

from inventory import strategies
from inventory.exceptions import (
    BuyerLimitExceeded,
    CannotJoinTransaction,
    InsufficientStock,
    NotForSale,
    TooMuchContention,
    UnknownStrategy,
)
from inventory.models import Product, Reservation
from inventory.reservations import reserve
from inventory.strategies import retry
from tests.conftest import MakeProduct

pytestmark = pytest.mark.django_db(transaction=True)

every = pytest.mark.parametrize("slug", [s.slug for s in strategies.all_strategies()])


@every
def test_a_strategy_explains_itself(slug: str) -> None:
    strategy = strategies.get(slug)
    assert strategy.slug == slug
    assert strategy.label
    assert strategy.how.count(".") >= 2
    assert strategy.when.endswith(".")
    assert strategies.create(slug) is not strategies.create(slug)


@every
def test_alone_every_strategy_is_right(make_product: MakeProduct, slug: str) -> None:
    product = make_product(5)
    hold = reserve(product, 2, buyer="A", strategy=slug)
    assert (hold.quantity, hold.buyer, hold.strategy, hold.status) == (2, "A", slug, "HELD")
    with pytest.raises(InsufficientStock) as refused:
        reserve(product, 4, buyer="B", strategy=slug)
    assert refused.value.available == 3
    product.refresh_from_db()
    assert (product.stock, product.version) == (3, 2)


@every
def test_switched_off_means_no_hold(make_product: MakeProduct, slug: str) -> None:
    product = make_product(5, is_active=False)
    with pytest.raises(NotForSale):
        reserve(product, 1, buyer="A", strategy=slug)


@every
def test_the_limit_per_buyer(make_product: MakeProduct, slug: str) -> None:
    product = make_product(5, max_per_buyer=2)
    reserve(product, 2, buyer="A", strategy=slug)
    with pytest.raises(BuyerLimitExceeded):
        reserve(product, 1, buyer="A", strategy=slug)


@every
def test_inside_the_callers_transaction_it_joins_or_says_why_not(
    make_product: MakeProduct, slug: str
) -> None:
    product = make_product(5)
    strategy = strategies.get(slug)
    if strategy.joins_transaction:
        with transaction.atomic():
            reserve(product, 1, buyer="A", strategy=slug)
            transaction.set_rollback(True)
    else:
        with pytest.raises(CannotJoinTransaction, match=slug), transaction.atomic():
            reserve(product, 1, buyer="A", strategy=slug)
    assert not Reservation.objects.exists()


def test_the_backstop_makes_a_late_refusal_of_a_negative_stock(make_product: MakeProduct) -> None:
    """The unit goes while the buyer pays. PostgreSQL rejects the write: the buyer is refused."""
    product = make_product(1)

    def somebody_else_is_faster() -> None:
        reserve(product, 1, buyer="B", strategy="single_statement")

    with pytest.raises(InsufficientStock, match="sold out"):
        reserve(product, 1, buyer="A", strategy="unguarded_decrement", pay=somebody_else_is_faster)


@pytest.mark.breaks_law
def test_without_the_backstop_stock_goes_below_zero(make_product: MakeProduct) -> None:
    product = make_product(1, backstop=False)
    reserve(
        product,
        1,
        buyer="A",
        strategy="unguarded_decrement",
        pay=lambda: reserve(product, 1, buyer="B"),
    )
    product.refresh_from_db()
    assert product.stock == -1


@pytest.mark.breaks_law
def test_a_naive_save_writes_over_another_sale(make_product: MakeProduct) -> None:
    product = make_product(10)
    reserve(
        product,
        1,
        buyer="A",
        strategy="naive",
        pay=lambda: reserve(product, 4, buyer="B"),
    )
    product.refresh_from_db()
    assert product.stock == 9
    assert Reservation.objects.units() == 5


@pytest.mark.parametrize("slug", ["versioned", "serializable"])
def test_a_buyer_overtaken_for_too_long_may_try_again(
    make_product: MakeProduct, slug: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = make_product(10)
    monkeypatch.setattr(retry, "SECONDS", 0.0)
    overtaken_always(monkeypatch, slug)
    with pytest.raises(TooMuchContention, match="try again"):
        reserve(product, 1, buyer="A", strategy=slug)
    assert not Reservation.objects.exists()


def overtaken_always(monkeypatch: pytest.MonkeyPatch, slug: str) -> None:
    """Sell a unit on another connection each time between the strategy's read and its write."""
    from concurrent.futures import ThreadPoolExecutor

    from django.db import connection

    get = Product.objects.get

    def sell_one() -> None:
        try:
            Product.objects.filter(stock__gt=0).update(version=F("version") + 1)
        finally:
            connection.close()

    def read_and_be_overtaken(*args: object, **kwargs: object) -> Product:
        product = get(*args, **kwargs)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(sell_one).result()
        return product

    monkeypatch.setattr(Product.objects, "get", read_and_be_overtaken)


def test_an_unknown_strategy_gets_the_nearest_names() -> None:
    with pytest.raises(UnknownStrategy, match="select_for_update"):
        strategies.get("select_for_updates")
    with pytest.raises(UnknownStrategy, match=r"naive.*single_statement"):
        strategies.get("xyzzy")
