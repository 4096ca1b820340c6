"""Queries whose SQL is written once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core.paginator import Paginator
from django.db.models import F, QuerySet, Value
from django.db.models.functions import JSONObject
from django.db.models.sql.compiler import SQLCompiler
from pytest_django import DjangoAssertNumQueries

from inventory.models import Product, Reservation
from shop.compiled_queries import compiled
from tests.conftest import MakeProduct

pytestmark = pytest.mark.django_db


def by_name(name: str) -> QuerySet[Any]:
    products = Product.objects.filter(name=name, stock__gt=1).order_by("-sku")
    # Django, not psycopg, makes values of JSON.
    return products.annotate(double=F("stock") * 2, asked=Value(name), json=JSONObject(of="sku"))


def test_it_finds_what_its_queryset_finds(make_product: MakeProduct) -> None:
    for units in (1, 2, 3, 4):
        make_product(units, name="Lamp")
    make_product(9, name="Clock")
    found = compiled(by_name)(name="Lamp")
    fields = [field.attname for field in Product._meta.concrete_fields] + [
        "double",
        "asked",
        "json",
    ]
    for row, expected in zip(found, by_name("Lamp"), strict=True):
        assert [getattr(row, each) for each in fields] == [
            getattr(expected, each) for each in fields
        ]
    assert found.count() == 3
    assert [row.stock for row in found[1:3]] == [3, 2]
    assert [row.stock for row in found[0:2]] == [4, 3]
    first = found.first()
    assert first is not None
    assert (first.double, first.json) == (8, {"of": first.sku})
    assert compiled(by_name)(name="Vase").first() is None


def test_its_rows_are_instances_like_any_other(make_product: MakeProduct) -> None:
    make_product(5, name="Lamp")
    product = compiled(by_name)(name="Lamp").first()
    assert product is not None
    product.name = "Brass lamp"
    product.save()
    assert Product.objects.get().name == "Brass lamp"


def test_its_sql_is_written_once(
    make_product: MakeProduct,
    monkeypatch: pytest.MonkeyPatch,
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    make_product(5, name="Lamp")
    query = compiled(by_name)
    assert len(list(query(name="Clock"))) == query(name="Clock").count() == 0

    def write(*args: object, **kwargs: object) -> None:
        raise AssertionError("It is written again.")

    monkeypatch.setattr(SQLCompiler, "as_sql", write)
    with django_assert_num_queries(3):
        assert len(list(query(name="Lamp"))) == query(name="Lamp").count() == 1
        assert query(name="Lamp").first() is not None


def test_a_paginator_takes_it(
    make_product: MakeProduct, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(5):
        make_product(5, name="Lamp")
    found: Any = compiled(by_name)(name="Lamp")
    with django_assert_num_queries(2):
        page = Paginator(found, 2).get_page(3)
        assert [row.name for row in page] == ["Lamp"]
        assert page.paginator.count == 5


@pytest.mark.parametrize("name", ["x' OR ''='", "%s", "%(name)s", "100 %", ""])
def test_texts_are_only_texts(make_product: MakeProduct, name: str) -> None:
    make_product(5, name="Lamp")
    product = make_product(5, name=name)
    assert list(compiled(by_name)(name=name)) == [product]


def of_part(name: str) -> QuerySet[Product]:
    return Product.objects.filter(name__icontains=name)


def of_other_model(name: str) -> QuerySet[Reservation]:
    return Reservation.objects.filter(buyer=name).select_related("product")


def of_some_fields(name: str) -> QuerySet[Product]:
    return Product.objects.filter(name=name).only("name")


@pytest.mark.parametrize("build", [of_part, of_other_model, of_some_fields])
def test_what_would_be_read_wrongly_is_rejected(build: Callable[..., QuerySet[Any]]) -> None:
    """A lookup may make another text of ours, and rows of other columns would be mixed up."""
    with pytest.raises(TypeError, match=r"must read all fields|has no parameter"):
        list(compiled(build)(name="Lamp"))


def test_a_text_too_few_or_too_many_is_an_error() -> None:
    with pytest.raises(TypeError, match=r"needs \['name'\], not \[\]"):
        compiled(by_name)()
    with pytest.raises(TypeError, match="not "):
        compiled(by_name)(name="Lamp", buyer="A")
