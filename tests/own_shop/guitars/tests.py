"""Tests for Django's own test runner, in a process that knows nothing of our shop."""

import sys
from concurrent.futures import ThreadPoolExecutor
from unittest import skipUnless

from django.apps import apps
from django.contrib.auth import get_user_model
from django.db import connections
from django.test import Client, TransactionTestCase

from guitars.models import Guitar
from inventory import monitor, stock
from inventory.models import Product
from inventory.reservations import release, reserve


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

    def test_a_hold_that_has_ended_is_not_sold(self) -> None:
        product = Product.objects.create(sku="G1", slug="g1", name="Guitar", price=900)
        guitar = Guitar.objects.create(wood="spruce", stock_item=product)
        stock.receive(product, 3)
        release(reserve(product, 1, buyer="buyer 1", idempotency_key="key 1").pk)
        assert self.buy(guitar.pk, 1) == 409
        assert monitor.state_of(product.pk).sold == 0

    def test_texts_that_cannot_be_stored_are_refused(self) -> None:
        product = Product.objects.create(sku="G1", slug="g1", name="Guitar", price=900)
        guitar = Guitar.objects.create(wood="spruce", stock_item=product)
        stock.receive(product, 3)
        for form in (
            {"buyer": 65 * "b", "key": "key"},
            {"buyer": "buyer", "key": 101 * "k"},
            {"buyer": "a NUL: \0", "key": "key"},
        ):
            assert Client().post(f"/guitars/{guitar.pk}/buy", form).status_code == 409, form
        assert monitor.state_of(product.pk).held == 0

    @skipUnless(apps.is_installed("unfold"), "The pages for stock are built on Unfold.")
    def test_the_admin_has_pages_for_stock(self) -> None:
        product = Product.objects.create(sku="G1", slug="g1", name="Guitar", price=900)
        stock.receive(product, 3)
        client = Client()
        client.force_login(get_user_model().objects.create(email="a@b.c", is_superuser=True))
        for page in ("", "add/", "import/", "1/change/", "1/receive/", "1/stock-history/"):
            url = f"/admin/inventory/product/{page}".replace("/1/", f"/{product.pk}/")
            assert client.get(url).status_code == 200, url

    def buy(self, guitar: int, number: int) -> int:
        form = {"buyer": f"buyer {number}", "key": f"key {number}"}
        try:
            answer = Client().post(f"/guitars/{guitar}/buy", form)
            assert b"G1" not in answer.content  # the SKU is for the staff
            return answer.status_code
        finally:
            connections.close_all()
