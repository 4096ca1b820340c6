"""Every field of the checkout's form is saved, corrected, and shown to staff."""

from __future__ import annotations

from html import unescape
from typing import Any

import pytest
from django import forms
from django.conf import LazySettings
from django.core import mail
from django.test import Client
from django.urls import reverse

from inventory.admin.base import change_url
from shop.forms import CheckoutForm, ContactForm
from shop.models import Order
from tests.conftest import MakeProduct
from tests.shop.admin.conftest import fields_of
from tests.shop.orders.pages import Shopper, page_of, text_of
from tests.shop.orders.steps import do_jobs

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def ada() -> Shopper:
    return Shopper("Ada")


@pytest.fixture(autouse=True)
def countries(settings: LazySettings) -> None:
    settings.SHIP_TO_COUNTRIES = ["DE", "AT", "FR"]


def filled_in(turn: int = 0) -> dict[str, str]:
    """A text for each field that buyers fill in, by its name in the page."""
    form = ContactForm()
    return {
        field.html_name: _something(field.field, field.name, turn) for field in form.typed_fields
    }


def _something(field: forms.Field, name: str, turn: int) -> str:
    if isinstance(field, forms.ChoiceField):
        choices: Any = field.choices
        return str(choices[turn][0])
    if isinstance(field, forms.EmailField):
        return f"{name}{turn}@example.org"
    return f"{name} {turn}"


def saved() -> dict[str, str]:
    """The saved values of the order, by the names of the form's fields in the page."""
    order = Order.objects.get()
    return {
        field.html_name: str(getattr(order, field.name)) for field in ContactForm().typed_fields
    }


def shown_in_form(page: str) -> dict[str, str]:
    fields = fields_of(page, "email")
    return {field.html_name: fields[field.html_name] for field in ContactForm().typed_fields}


def test_the_form_has_each_checkout_field_and_no_other() -> None:
    asked_by_the_page = {"hold", "ended", "seen_total", "key"}
    assert set(ContactForm().fields) == set(Order.CHECKOUT_FIELDS)
    assert set(CheckoutForm().fields) == set(Order.CHECKOUT_FIELDS) | asked_by_the_page


def test_each_field_survives_an_error_and_is_saved(ada: Shopper, make_product: MakeProduct) -> None:
    ada.reserve(make_product())
    form = ada.checkout_form(**filled_in())
    refused = ada.check_out({**form, "seen_total": "1.00"})
    assert refused.status_code == 409
    assert shown_in_form(text_of(refused)) == filled_in()
    placed = ada.check_out(form)
    assert "/demo-bank/" in placed["Location"]  # the order has it all, and needs no correction
    assert saved() == filled_in()


@pytest.mark.parametrize("name", list(filled_in()))
def test_each_field_is_corrected_by_the_same_form_sent_again(
    ada: Shopper, make_product: MakeProduct, name: str
) -> None:
    ada.reserve(make_product())
    form = ada.checkout_form(**filled_in())
    ada.check_out(form)
    corrected = {**filled_in(), name: filled_in(1)[name]}
    answer = ada.client.post("/checkout/", {**form, **corrected}, follow=True)
    assert "has your corrections now" in text_of(answer)
    assert saved() == corrected


@pytest.mark.parametrize("name", list(filled_in()))
def test_each_field_is_corrected_on_the_page_for_it(
    ada: Shopper, make_product: MakeProduct, name: str
) -> None:
    ada.reserve(make_product())
    ada.check_out(**filled_in())
    page = f"{page_of(Order.objects.get())}contact/"
    asked = shown_in_form(ada.get(page))
    assert asked == filled_in()
    corrected = {**asked, name: filled_in(1)[name]}
    answer = ada.client.post(page, corrected, follow=True)
    assert "has your corrections now" in text_of(answer)
    assert saved() == corrected


def test_staff_see_each_field(
    ada: Shopper, make_product: MakeProduct, admin_client: Client
) -> None:
    ada.reserve(make_product())
    ada.check_out(**{**filled_in(), "country": "AT"})
    seen = text_of(admin_client.get(change_url(Order.objects.get())))
    for typed in {**filled_in(), "country": "Austria"}.values():
        assert typed in seen


# A field beside the name, the e-mail and the address


def test_a_further_field_is_shown_wherever_the_address_is(
    ada: Shopper,
    make_product: MakeProduct,
    admin_client: Client,
    settings: LazySettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another field of the order stands for a new field of the form."""
    monkeypatch.setattr(Order, "CHECKOUT_FIELDS", (*Order.CHECKOUT_FIELDS, "tracking"))
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    settings.MANAGERS = [("", "boss@example.org")]
    order, bank = ada.order(make_product())
    Order.objects.update(tracking="<left> of the door")
    ada.choose(bank)
    page = ada.look(order)
    slip = text_of(admin_client.get(reverse("admin:shop_order_packing_slip", args=[order.pk])))
    do_jobs("send_order_paid", "send_order_to_managers")
    to_buyer: Any
    to_buyer, to_managers = mail.outbox
    [html] = to_buyer.alternatives
    for text in (page, slip, to_buyer.body, unescape(html.content), to_managers.body):
        assert "Tracking reference: <left> of the door" in text
