"""A shop that has one mug, and customers who want it."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.contrib.sites.models import Site
from django.core.signing import Signer
from django.db import connection
from django.test import Client
from oscar.core.loading import get_model
from oscar.core.thumbnails import AbstractThumbnailer

Basket = get_model("basket", "Basket")
BasketLine = get_model("basket", "Line")
Order = get_model("order", "Order")
OrderLine = get_model("order", "Line")
Partner = get_model("partner", "Partner")
Product = get_model("catalogue", "Product")
ProductClass = get_model("catalogue", "ProductClass")
StockRecord = get_model("partner", "StockRecord")

WRITTEN = [
    *(get_model("order", "LinePrice"), OrderLine, Order, BasketLine, Basket),
    *(get_model("analytics", "ProductRecord"), get_model("analytics", "UserRecord")),
    *(get_model("communication", "Email"), StockRecord, Product, ProductClass, Partner),
    *(Session, User),
]
"""In an order in which they can be emptied."""

browsers = {"Ann": Client(), "Bob": Client()}


def one_mug() -> None:
    """One mug, Ann and Bob, who are logged in, and no basket."""
    with connection.cursor() as cursor:  # at once: the models would look for all related rows
        cursor.execute("; ".join(f"DELETE FROM {model._meta.db_table}" for model in WRITTEN))
    Site.objects.clear_cache()
    Site.objects.get_current()  # in the process's memory, once it has served a page
    mugs = ProductClass.objects.create(pk=1, name="Mugs", requires_shipping=False)
    mug = Product.objects.create(pk=1, title="Mug", slug="mug", product_class=mugs)
    StockRecord.objects.create(
        pk=1,
        product=mug,
        partner=Partner.objects.create(pk=1, name="Potter"),
        partner_sku="MUG",
        price="9.90",
        price_currency="EUR",
        num_in_stock=1,
        num_allocated=0,
    )
    for pk, (name, browser) in enumerate(browsers.items(), start=1):
        user = User.objects.create(pk=pk, username=name, email=f"{name.lower()}@example.com")
        browser.cookies.clear()
        browser.force_login(user)


def fill_basket(pk: int, owner: str | None) -> None:
    """A basket with the mug."""
    user = User.objects.get(username=owner) if owner else None
    BasketLine.objects.create(
        pk=pk,
        basket=Basket.objects.create(pk=pk, owner=user),
        line_reference="1_1",
        product_id=1,
        stockrecord_id=1,
        quantity=1,
        price_excl_tax="9.90",
        price_incl_tax="9.90",
        price_currency="EUR",
    )


def two_want_the_mug() -> None:
    """Ann and Bob have come as far as the page that has the button “Place order”."""
    one_mug()
    for pk, (name, browser) in enumerate(browsers.items(), start=1):
        fill_basket(pk, name)
        session = browser.session
        session["checkout_data"] = {"shipping": {"method_code": "no-shipping-required"}}
        session.save()


def ann_has_logged_in() -> None:
    """Ann put the mug into a basket before she logged in. She has an empty one of her own."""
    one_mug()
    Basket.objects.create(pk=1, owner=User.objects.get(username="Ann"))
    fill_basket(2, None)
    browsers["Ann"].cookies["oscar_open_basket"] = Signer().sign(2)


class NoThumbnails(AbstractThumbnailer):
    """Pictures stay as they are, so that no more packages are needed."""

    def generate_thumbnail(self, source: Any, **opts: Any) -> Any:
        raise ValueError("This shop has no pictures.")

    def delete_thumbnails(self, source: Any) -> None:
        pass
