"""The statements and round trips that pages and forms may cost: one more is a decision."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.db.models.sql.compiler import SQLCompiler
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from inventory.models import Product
from tests.conftest import MakeProduct
from tests.round_trips import counted_round_trips
from tests.shop.conftest import Reserve

pytestmark = pytest.mark.django_db


@pytest.fixture
def product(make_product: MakeProduct) -> Product:
    return make_product(100)


@pytest.mark.parametrize("who", ["new visitor", "buyer", "holder"])
@pytest.mark.parametrize("part", ["", "stock/"])
def test_a_products_page_and_its_fragment_take_one_statement(
    client: Client,
    product: Product,
    reserve: Reserve,
    django_assert_num_queries: DjangoAssertNumQueries,
    who: str,
    part: str,
) -> None:
    page = f"/products/{product.slug}/"
    if who == "buyer":
        client.get(page)
    elif who == "holder":
        reserve(product, 2)
        client.get("/basket/")  # shows the notice
    with django_assert_num_queries(1):
        answer = client.get(page + part)
    assert (b"You hold 2" in answer.content) is (who == "holder")


@pytest.mark.django_db(transaction=True)
def test_reserving_takes_three_round_trips(
    client: Client, product: Product, reserve: Reserve, settings: Any
) -> None:
    """The look with the claim of the address, the taking, and a look at what two tabs took."""
    assert settings.MOST_UNITS_PER_ADDRESS
    reserve(product, by=Client())
    for _ in range(2):  # the first hold, and one more
        with counted_round_trips() as round_trips:
            answer = reserve(product)
        assert answer.status_code == 302
        assert round_trips.number == 3


@pytest.mark.django_db(transaction=True)
def test_reserving_without_a_limit_per_address_takes_as_many(
    product: Product, reserve: Reserve, settings: Any
) -> None:
    settings.MOST_UNITS_PER_ADDRESS = None
    reserve(product, by=Client())
    with counted_round_trips() as round_trips:
        assert reserve(product).status_code == 302
    assert round_trips.number == 3


@pytest.mark.django_db(transaction=True)
def test_the_same_form_again_takes_three_round_trips(product: Product, reserve: Reserve) -> None:
    key = uuid.uuid4()
    reserve(product, key=key)
    with counted_round_trips() as round_trips:
        assert reserve(product, key=key).status_code == 302
    assert round_trips.number == 3  # the look, the first request's hold, the claim dropped


@pytest.mark.django_db(transaction=True)
def test_a_refusal_for_want_of_units_takes_seven_round_trips(
    make_product: MakeProduct, reserve: Reserve
) -> None:
    """As reserving, and then: why, the record of it, how many are left, the claim, the page."""
    sold_out = make_product(0)
    reserve(sold_out, by=Client())
    with counted_round_trips() as round_trips:
        assert reserve(sold_out).status_code == 409
    assert round_trips.number == 7


def test_the_list_takes_three_statements(
    client: Client,
    make_product: MakeProduct,
    reserve: Reserve,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    """The number of products, those of the page, and the units in the basket."""
    for _ in range(30):
        product = make_product()
    reserve(product, 2)
    client.get("/basket/")
    for query in ("", "?page=2", "?in_stock=on&sort=-price&page=3", "?q=product"):
        with django_assert_num_queries(3):
            answer = client.get(f"/{query}")
        assert b'id="basket-count">2<' in answer.content


@pytest.mark.parametrize("address", ["/", "/?in_stock=on", "/products/{slug}/"])
def test_no_sql_is_written_for_a_page_of_the_catalogue(
    client: Client, product: Product, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """To write it takes Django longer than all the rest of the page."""

    def write(*args: object, **kwargs: object) -> None:
        raise AssertionError("SQL is written anew.")

    page = address.format(slug=product.slug)
    client.get(page)
    monkeypatch.setattr(SQLCompiler, "as_sql", write)
    assert client.get(page).status_code == 200
