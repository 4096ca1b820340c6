"""The catalogue to try the shop with."""

import xml.etree.ElementTree as ET

import pytest
from django.contrib.staticfiles import finders

from inventory.models import Product, StockMovement
from shop.demo import catalogue
from tests.concurrency import at_once


@pytest.mark.django_db
def test_every_product_comes_with_its_stock_received_as_a_delivery() -> None:
    made = catalogue.load()
    assert len(made) == len(catalogue.ITEMS) == Product.objects.for_sale().count()
    for product, item in zip(made, catalogue.ITEMS, strict=True):
        assert (product.sku, product.stock) == (item.sku, item.units)
        assert product.units_received == item.units
    assert Product.objects.filter(max_per_buyer=2).exists()
    assert Product.objects.filter(stock=0).exists()
    assert Product.objects.filter(stock__range=(1, 3)).exists()


@pytest.mark.django_db
def test_loading_again_adds_nothing() -> None:
    catalogue.load()
    movements = StockMovement.objects.count()
    assert catalogue.load() == []
    assert Product.objects.count() == len(catalogue.ITEMS)
    assert StockMovement.objects.count() == movements


@pytest.mark.django_db(transaction=True)
def test_loading_twice_at_once_adds_each_product_once() -> None:
    made = at_once([catalogue.load] * 4)
    assert sorted(len(each) for each in made) == [0, 0, 0, len(catalogue.ITEMS)]
    for item in catalogue.ITEMS:
        assert Product.objects.get(sku=item.sku).units_received == item.units


@pytest.mark.django_db
def test_changes_of_staff_to_a_product_stay() -> None:
    catalogue.load()
    Product.objects.filter(sku="MUG-01").update(name="Mug", slug="mug")
    assert catalogue.load() == []
    assert Product.objects.get(sku="MUG-01").name == "Mug"


@pytest.mark.parametrize("item", catalogue.ITEMS, ids=lambda item: item.slug)
def test_every_product_has_a_drawing(item: catalogue.Item) -> None:
    found = finders.find(f"shop/catalogue/{item.slug}.svg")
    assert isinstance(found, str)
    assert ET.parse(found).getroot().tag == "{http://www.w3.org/2000/svg}svg"
