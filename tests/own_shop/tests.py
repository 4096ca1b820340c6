"""Run by Django's own test runner, in a process that has never heard of our shop."""

import sys
from concurrent.futures import ThreadPoolExecutor

from django.db import connection
from django.test import Client, TransactionTestCase

from inventory import monitor, stock
from inventory.models import Product
from tests.own_shop.models import Guitar


class OwnShopTests(TransactionTestCase):
    def test_twelve_buyers_of_three_guitars(self) -> None:
        product = Product.objects.create(sku="G1", slug="g1", name="Guitar", price=900)
        guitar = Guitar.objects.create(wood="spruce", stock_item=product)
        stock.receive(product, 3)
        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(self.buy, [guitar.pk] * 12, range(12)))
        assert sorted(answers) == [200] * 3 + [409] * 9
        assert monitor.check() == []
        assert monitor.state_of(product.pk).sold == 3
        assert "shop" not in sys.modules

    def buy(self, guitar: int, number: int) -> int:
        try:
            return (
                Client()
                .post(
                    f"/guitars/{guitar}/buy", {"buyer": f"buyer {number}", "key": f"key {number}"}
                )
                .status_code
            )
        finally:
            connection.close()
