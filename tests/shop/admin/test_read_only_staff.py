"""No page, button or action of the admin lets staff write who may only read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from inventory import alerts
from shop import orders
from shop.models import DemoBankCharge
from tests.conftest import MakeProduct
from tests.shop.admin.conftest import Staff
from tests.shop.orders.steps import APPROVE, at_bank, place

SENT = {
    "confirmed": "yes",
    "post": "yes",
    "step": "decline-refunds",
    "units": "1",
    "reason": "DELIVERY",
    "how": "By hand",
    "amount": "1.00",
    "seen": "0",
}
WRITES = re.compile(r"\bINSERT INTO\b|\bDELETE FROM\b|(?<!FOR )(?<!NO KEY )\bUPDATE (?!SKIP|OF)")


@pytest.fixture
def busy_shop(make_product: MakeProduct) -> None:
    """A shop with rows for many buttons: orders, money, stock, and an open alert."""
    lamp = make_product(5, low_stock_threshold=5)
    place((lamp, 1), buyer="B")
    order = place((lamp, 2))
    at_bank(order, APPROVE)
    orders.settle(order.pk)
    alerts.check_all()


def addresses() -> Iterator[str]:
    """Every address of every model in the admin, each with a row that is there."""
    for model, model_admin in admin.site._registry.items():
        row = model._default_manager.first()
        pk = quote(str(row.pk)) if row else "1"
        for pattern in model_admin.get_urls():
            if pattern.name:
                arguments = dict.fromkeys(pattern.pattern.regex.groupindex, pk)
                yield reverse(f"admin:{pattern.name}", kwargs=arguments)
    yield from (reverse("admin:index"), reverse("check-stock"))
    yield reverse("demo-bank-charge", args=[DemoBankCharge.objects.get().pk])


def actions() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every action on ticked rows: the address of the list, and what its form sends."""
    for model, model_admin in admin.site._registry.items():
        address = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
        ticked = [str(pk) for pk in model._default_manager.values_list("pk", flat=True)]
        for action in (*(model_admin.actions or ()), "delete_selected"):
            name = action if isinstance(action, str) else action.__name__
            yield address, {"action": name, "_selected_action": ticked}


def pages_that_write(client: Client) -> list[str]:
    forms = [(address, dict[str, Any]()) for address in addresses()]
    found = []
    for address, more in [*actions(), *forms]:
        with CaptureQueriesContext(connection) as queries:
            client.post(address, {**SENT, "key": str(uuid4()), **more})
        if any(WRITES.search(query["sql"]) for query in queries):
            found.append(f"{address} {more.get('action', '')}".strip())
    return found


@pytest.mark.django_db
def test_an_auditor_writes_by_no_button(busy_shop: None, staff: Staff) -> None:
    assert pages_that_write(staff("auditor")) == []


@pytest.mark.django_db
def test_the_same_forms_write_if_a_merchant_sends_them(busy_shop: None, staff: Staff) -> None:
    """Else the test above would find nothing."""
    found = pages_that_write(staff("merchant"))
    assert "/admin/check-stock/" in found
    for end in ("receive/", "ship/", "acknowledge_ticked", "release_ticked", "switch_off_ticked"):
        assert any(each.endswith(end) for each in found), end
