"""A form of the admin that is sent again does nothing twice, and says so.

The cause is a colleague, a double click or the browser's Back button. The second answer is a
warning about the first.
"""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import messages
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from inventory import alerts
from inventory.models import Product, Reservation, StockAlert, StockMovement
from inventory.reservations import reserve
from shop import orders
from shop.models import Order, Refund
from tests.conftest import MakeProduct
from tests.shop.admin.conftest import fields_of
from tests.shop.orders.steps import APPROVE, at_bank, place, stock_of

pytestmark = pytest.mark.django_db


def url_of(obj: Any, step: str) -> str:
    return reverse(f"admin:{obj._meta.app_label}_{obj._meta.model_name}_{step}", args=[obj.pk])


def said(response: Any) -> list[tuple[int, str]]:
    return [(each.level, str(each)) for each in response.context["messages"]]


def send(admin: Client, url: str, form: dict[str, Any]) -> tuple[int, str]:
    """Send the form, and return the only message of the answer."""
    [only] = said(admin.post(url, form, follow=True))
    return only


class TestStock:
    def test_a_second_delivery_from_an_old_form(
        self, admin: Client, make_product: MakeProduct
    ) -> None:
        """A second delivery of five looks like a double click, so the page offers a new form."""
        product = make_product(2, sku="LAMP")
        url = url_of(product, "receive_units")
        form = {**fields_of(admin.get(url).content.decode(), "units"), "units": "5"}
        assert send(admin, url, form) == (messages.SUCCESS, "LAMP: stock 2 → 7 (delivery).")
        first = StockMovement.objects.latest("pk")
        level, words = send(admin, url, form)
        assert level == messages.WARNING
        assert "This form was sent before: 5 units were received at" in words
        assert f"movement #{first.pk}" in words
        assert "Nothing was received this time." in words
        assert f'href="{url}"' in words  # to a form of its own key
        again = {**fields_of(admin.get(url).content.decode(), "units"), "units": "5"}
        assert send(admin, url, again)[0] == messages.SUCCESS
        assert stock_of(product) == 12

    def test_a_second_removal_from_an_old_form(
        self, admin: Client, make_product: MakeProduct
    ) -> None:
        product = make_product(9)
        url = url_of(product, "remove_units")
        form = {**fields_of(admin.get(url).content.decode(), "units"), "units": "1"}
        assert send(admin, url, form)[0] == messages.SUCCESS
        level, words = send(admin, url, form)
        assert level == messages.WARNING
        assert "1 unit was removed at" in words
        assert stock_of(product) == 8

    @pytest.mark.breaks_law
    def test_a_second_repair(self, admin: Client, make_product: MakeProduct) -> None:
        product = make_product(9)
        Product.objects.update(stock=7)
        url = url_of(product, "repair_count")
        assert send(admin, url, {"note": ""})[0] == messages.SUCCESS
        level, words = send(admin, url, {"note": ""})
        assert level == messages.WARNING
        assert "nothing was repaired" in words


def simple_steps(make_product: MakeProduct) -> dict[str, Any]:
    """For each step without numbers an object that it can be done with once."""
    lamp = make_product(20, low_stock_threshold=30)
    alerts.check_all()
    held = reserve(lamp, 1, buyer="B")
    shipped, cancelled = place((lamp, 1)), place((lamp, 1))
    for order in (shipped, cancelled):
        at_bank(order, APPROVE)
        orders.settle(order.pk)
    unsettled, refunded = place((lamp, 1)), place((lamp, 1))
    at_bank(refunded, APPROVE)
    orders.settle(refunded.pk)
    orders.refund(refunded.pk)
    at_bank(unsettled, APPROVE)
    return {
        "switch_off": lamp,
        "acknowledge": StockAlert.objects.get(),
        "release_hold": held,
        "ship": shipped,
        "cancel": cancelled,
        "settle": unsettled,
        "carry_out": Refund.objects.get(),
    }


def test_every_step_is_a_success_once(admin: Client, make_product: MakeProduct) -> None:
    for number, (step, obj) in enumerate(simple_steps(make_product).items(), start=1):
        form = {"confirmed": "yes"}
        first, second = (send(admin, url_of(obj, step), form) for _ in range(2))
        assert first[0] == messages.SUCCESS, first
        assert second[0] == messages.WARNING, second
        assert second != first
        assert LogEntry.objects.count() == number, step


@pytest.mark.parametrize(
    ("model", "action"),
    [(Product, "switch_off_ticked"), (StockAlert, "acknowledge_ticked")],
)
def test_rows_that_were_ticked_before(
    admin: Client, make_product: MakeProduct, model: Any, action: str
) -> None:
    make_product(1, low_stock_threshold=2)
    alerts.check_all()
    form = {"action": action, "_selected_action": model.objects.get().pk, "confirmed": "yes"}
    url = reverse(f"admin:inventory_{model._meta.model_name}_changelist")
    assert send(admin, url, form)[0] == messages.SUCCESS
    level, words = send(admin, url, form)
    assert level == messages.WARNING
    assert "already" in words


def test_products_that_were_deleted_before(admin: Client, make_product: MakeProduct) -> None:
    product = make_product(0)
    form = {"action": "delete_or_refuse", "_selected_action": product.pk, "confirmed": "yes"}
    url = reverse("admin:inventory_product_changelist")
    assert send(admin, url, form)[0] == messages.SUCCESS
    level, words = send(admin, url, form)
    assert level == messages.WARNING
    assert "the ticked rows no longer exist" in words


def test_holds_that_were_ticked_before(admin: Client, make_product: MakeProduct) -> None:
    hold = reserve(make_product(1), 1, buyer="B")
    form = {"action": "release_ticked", "_selected_action": str(hold.pk), "confirmed": "yes"}
    url = reverse("admin:inventory_reservation_changelist")
    assert send(admin, url, form)[0] == messages.SUCCESS
    assert send(admin, url, form)[0] == messages.WARNING
    assert Reservation.objects.get().status == Reservation.Status.RELEASED


@pytest.mark.parametrize(
    ("step", "numbers"), [("refund_amount", {"amount": "3.00"}), ("refund_units", {})]
)
def test_a_refund_from_an_old_form_says_that_nothing_was_done(
    admin: Client, make_product: MakeProduct, step: str, numbers: dict[str, str]
) -> None:
    order = place((make_product(5), 3))
    at_bank(order, APPROVE)
    orders.settle(order.pk)
    url = url_of(order, step)
    numbers = numbers or {f"line_{order.lines.get().pk}": "1"}
    form = {**fields_of(admin.get(url).content.decode(), "seen"), **numbers}
    assert send(admin, url, form)[0] == messages.SUCCESS
    again = admin.post(url, form).content.decode()
    assert "are on record already" in again
    assert "Nothing was done" in again
    assert Refund.objects.count() == 1
    assert Order.objects.get().state == Order.State.PAID
