"""Tests for pytest: the fixture ``races`` exists without a line in conftest."""

import pytest

from inventory import monitor, stock
from inventory.exceptions import InsufficientStock
from inventory.models import Product, Reservation
from inventory.reservations import reserve


@pytest.mark.django_db(transaction=True, databases=["main"])
def test_two_buyers_of_the_last_guitar(races):
    product = Product.objects.create(sku="G1", slug="g1", name="Guitar", price=900)
    stock.receive(product, 1)

    def put_back():
        Reservation.objects.all().delete()
        Product.objects.update(stock=1, version=1)

    def buy(buyer):
        try:
            reserve(product, 1, buyer=buyer, strategy="single_statement")
        except InsufficientStock:
            return "sold out"
        return "bought"

    result = races(
        {"A": lambda: buy("A"), "B": lambda: buy("B")},
        setup=put_back,
        invariant=lambda run: monitor.check() == [],
        using="main",
    )
    result.assert_holds()
    assert result.schedules > 1
