"""Packing slips: a page per order for the printer, and the order's own page."""

from __future__ import annotations

from decimal import Decimal

import html5lib
import pytest
from django.conf import LazySettings
from django.test import Client
from django.urls import reverse

from shop import orders
from shop.models import Order, Refund
from shop.orders import refunds
from tests.conftest import MakeProduct
from tests.shop.admin.conftest import Staff
from tests.shop.orders.steps import APPROVE, at_bank, now, place

pytestmark = pytest.mark.django_db


def paid(make_product: MakeProduct) -> Order:
    """Two lamps and a mug for Ada in Berlin."""
    lamp = make_product(9, name="Brass lamp", sku="LAMP", price=Decimal("1000.50"))
    mug = make_product(9, name="Mug <white>", sku="MUG", price=Decimal("14.00"))
    order = place((lamp, 2), (mug, 1))
    Order.objects.update(
        name="Ada Example",
        street="1 Main Street\nFlat 3",
        postcode="10115",
        town="Berlin",
        country="DE",
    )
    at_bank(order, APPROVE)
    return orders.settle(order.pk)


def url_of(order: Order, name: str = "packing_slip") -> str:
    return reverse(f"admin:shop_order_{name}", args=[order.pk])


def lines_of(html: str) -> list[str]:
    """The page's texts, one after the other: a <br> or another element ends one."""
    document = html5lib.parse(html, namespaceHTMLElements=False)
    texts = (" ".join(text.split()) for text in document.itertext())
    return [text for text in texts if text]


def follow_each_other(lines: list[str], *expected: str) -> bool:
    return any(lines[at : at + len(expected)] == list(expected) for at in range(len(lines)))


class TestTheOrdersPage:
    def test_the_address_is_in_lines(self, admin: Client, make_product: MakeProduct) -> None:
        order = paid(make_product)
        html = admin.get(url_of(order, "change")).content.decode()
        assert follow_each_other(
            lines_of(html), "1 Main Street", "Flat 3", "10115 Berlin", "Germany"
        )

    def test_an_address_is_text(self, admin: Client, make_product: MakeProduct) -> None:
        order = paid(make_product)
        Order.objects.update(street="<b>1</b> & Co")
        for name in ("change", "packing_slip"):
            html = admin.get(url_of(order, name)).content.decode()
            assert "&lt;b&gt;1&lt;/b&gt; &amp; Co" in html
            assert "<b>1</b>" not in html

    def test_each_line_has_its_total(self, admin: Client, make_product: MakeProduct) -> None:
        html = admin.get(url_of(paid(make_product), "change")).content.decode()
        lines = lines_of(html)
        assert follow_each_other(lines, "2", "€1,000.50", "€2,001.00", "0")
        assert follow_each_other(lines, "1", "€14.00", "€14.00", "0")

    def test_one_reads_where_one_is(self, admin: Client, make_product: MakeProduct) -> None:
        order = paid(make_product)
        html = admin.get(url_of(order, "change")).content.decode()
        crumbs = html5lib.parse(html, namespaceHTMLElements=False).findall(".//*[@class='crumb']")
        assert [crumb.text for crumb in crumbs] == ["Orders", f"{order.number}, paid"]


class TestThePackingSlip:
    def test_has_all_that_goes_into_the_parcel(
        self, admin: Client, make_product: MakeProduct, settings: LazySettings
    ) -> None:
        settings.SHOP_NAME, settings.SHOP_ADDRESS = (
            "Lamps & More",
            ["12 Dock Road", "20457 Hamburg"],
        )
        order = paid(make_product)
        assert url_of(order) in admin.get(url_of(order, "change")).content.decode()
        lines = lines_of(admin.get(url_of(order)).content.decode())
        assert follow_each_other(lines, "Lamps & More", "12 Dock Road", "20457 Hamburg")
        assert order.number in lines
        address = ("Ada Example", "1 Main Street", "Flat 3", "10115 Berlin", "Germany")
        assert follow_each_other(lines, *address)
        assert follow_each_other(lines, "Brass lamp", "LAMP", "2", "€1,000.50", "€2,001.00")
        assert follow_each_other(lines, "Mug <white>", "MUG", "1", "€14.00", "€14.00")
        assert follow_each_other(lines, "Goods", "€2,015.00")
        total = order.shipping_cost + Decimal(2015)
        assert follow_each_other(lines, "Total, tax included", f"€{total:,.2f}")

    def test_says_what_is_not_to_be_packed_any_more(
        self, admin: Client, make_product: MakeProduct
    ) -> None:
        order = paid(make_product)
        orders.refund(order.pk, units={order.lines.get(sku="LAMP").pk: 1})
        lines = lines_of(admin.get(url_of(order)).content.decode())
        assert follow_each_other(lines, "LAMP", "1", "of 2, 1 taken off")
        assert follow_each_other(lines, "Owed to you", "−€1,000.50")
        assert "Given back" not in lines
        refunds.carry_out(Refund.objects.get().pk)
        lines = lines_of(admin.get(url_of(order)).content.decode())
        assert follow_each_other(lines, "Given back", "−€1,000.50")
        assert "Owed to you" not in lines

    def test_warns_of_what_is_not_to_be_sent(
        self, admin: Client, make_product: MakeProduct
    ) -> None:
        order = paid(make_product)
        assert "send nothing" not in admin.get(url_of(order)).content.decode()
        orders.ship(order.pk)
        assert "This order was shipped already" in admin.get(url_of(order)).content.decode()
        orders.refund(order.pk)
        assert "This order is refunded: send nothing." in admin.get(url_of(order)).content.decode()
        assert url_of(order) not in admin.get(url_of(order, "change")).content.decode()

    def test_many_at_once(self, admin: Client, make_product: MakeProduct) -> None:
        ordered = [paid(make_product), place((make_product(1), 1), buyer="B")]
        ticked = {"action": "packing_slips", "_selected_action": [each.pk for each in ordered]}
        html = admin.post(reverse("admin:shop_order_changelist"), ticked).content.decode()
        assert html.count('<article class="slip">') == 2
        assert "This order is waiting for payment: send nothing." in html
        assert now(ordered[0]).state == Order.State.PAID

    def test_is_for_those_who_may_see_orders(self, staff: Staff, make_product: MakeProduct) -> None:
        order = paid(make_product)
        assert staff("auditor").get(url_of(order)).status_code == 200
        nobody = Client()
        assert nobody.get(url_of(order)).status_code == 302

    def test_keeps_to_the_policy_of_scripts(self, admin: Client, make_product: MakeProduct) -> None:
        html = admin.get(url_of(paid(make_product))).content.decode()
        assert "<style" not in html
        assert "onclick" not in html
        assert "<script src=" in html
