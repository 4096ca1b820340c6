"""Run by Django's own test runner, in a process that has never heard of our shop."""

import sys
from concurrent.futures import ThreadPoolExecutor

from django.contrib.auth import get_user_model
from django.db import connections
from django.test import Client, TransactionTestCase

from guitars.models import Guitar
from inventory import monitor, stock
from inventory.models import Product


class OwnShopTests(TransactionTestCase):
    databases = {"main"}

    def test_twelve_buyers_of_three_guitars(self) -> None:
        luthier = get_user_model().objects.create(email="luthier@example.org")
        product = Product.objects.create(sku="G1", slug="g1", name="Guitar", price=900)
        guitar = Guitar.objects.create(wood="spruce", stock_item=product)
        movement = stock.receive(product, 3, by=luthier)
        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(self.buy, [guitar.pk] * 12, range(12)))
        assert sorted(answers) == [200] * 3 + [409] * 9
        assert monitor.check() == []
        assert monitor.state_of(product.pk).sold == 3
        assert movement.made_by == luthier
        assert "shop" not in sys.modules

    def buy(self, guitar: int, number: int) -> int:
        form = {"buyer": f"buyer {number}", "key": f"key {number}"}
        try:
            return Client().post(f"/guitars/{guitar}/buy", form).status_code
        finally:
            connections.close_all()
