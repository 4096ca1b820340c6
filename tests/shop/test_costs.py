"""The statements and round trips that pages and forms may cost: one more is a decision."""

from __future__ import annotations

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from inventory.models import Product
from tests.conftest import MakeProduct
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
