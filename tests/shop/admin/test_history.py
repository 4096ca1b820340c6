"""The history of an object: who changed it when, each entry once, and counted."""

from __future__ import annotations

from typing import Any

import html5lib
import pytest
from django.contrib import admin as admin_site
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Group, User
from django.contrib.contenttypes.models import ContentType
from django.db.models.functions import Now
from django.test import Client
from django.urls import reverse

from inventory import alerts
from inventory.experiments.models import FlashSale
from shop import orders
from shop.models import Dispute, Refusal, ShopAlert
from tests.conftest import MakeProduct
from tests.shop.orders.steps import APPROVE, at_bank, place

pytestmark = pytest.mark.django_db


def one_of_each(make_product: MakeProduct) -> None:
    lamp = make_product(5, low_stock_threshold=9)
    alerts.check_all()
    order = place((lamp, 1))
    at_bank(order, APPROVE)
    orders.settle(order.pk)
    orders.refund(order.pk)
    Dispute.objects.create(
        payment=order.payments.get(), reference="d1", amount=1, state="WON", opened_at=Now()
    )
    Refusal.objects.create(product=lamp, quantity=1)
    ShopAlert.objects.create(kind=ShopAlert.Kind.WORKER_GONE, subject="x", text="None runs.")
    FlashSale.objects.create(
        stock=1, buyers=1, quantity_min=1, quantity_max=1, processes=1, threads=1, payment_ms=0
    )
    log(Group.objects.create(name="made here"), "Made.")


def log(obj: Any, *words: str) -> None:
    LogEntry.objects.bulk_create(
        LogEntry(
            user=User.objects.get(),
            content_type=ContentType.objects.get_for_model(obj),
            object_id=obj.pk,
            object_repr=str(obj)[:200],
            action_flag=CHANGE,
            change_message=each,
        )
        for each in words
    )


def rows(html: str) -> list[list[str]]:
    document = html5lib.parse(html, namespaceHTMLElements=False)
    return [["".join(cell.itertext()).strip() for cell in row] for row in document.iter("tr")]


def test_the_history_of_every_kind_of_object(admin: Client, make_product: MakeProduct) -> None:
    one_of_each(make_product)
    for model in list(admin_site.site._registry):
        obj: Any = model._default_manager.last()
        log(obj, "Shown once.")
        opts = model._meta
        url = reverse(
            f"admin:{opts.app_label}_{opts.model_name}_history", args=[quote(str(obj.pk))]
        )
        html = admin.get(url).content.decode()
        heading, *entries = rows(html)
        assert heading == ["When", "By", "Change"], model
        assert entries[-1][1:] == ["staff", "Shown once."], model
        counted = "1 entry" if len(entries) == 1 else f"{len(entries)} entries"
        assert f"<span>{counted}</span>" in html, model
        assert "…" not in html.split("<tbody>")[1], model


def test_a_long_history_goes_on_page_by_page(admin: Client, make_product: MakeProduct) -> None:
    product = make_product(1)
    log(product, *(f"Change {number}" for number in range(130)))
    url = reverse("admin:inventory_product_history", args=[product.pk])
    for page, (number, link) in {"1": (100, "Later"), "2": (30, "Earlier")}.items():
        html = admin.get(url, {"p": page}).content.decode()
        assert len(rows(html)) == 1 + number
        assert "130 entries" in html
        assert f">{link}</a>" in html
