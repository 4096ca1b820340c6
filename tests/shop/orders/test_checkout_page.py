"""The checkout: its contents, its errors and their words; and a form counts once."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from html import unescape
from typing import Any

import pytest
from django import forms
from django.test import Client

from inventory import reservations
from inventory.models import Product, Reservation
from shop import orders, payments
from shop.forms import ContactForm
from shop.models import DemoBankCharge, Order, Payment
from shop.payments import ProviderUnavailable, demo
from tests.concurrency import at_once, lapse
from tests.conftest import MakeProduct
from tests.shop.orders.pages import Shopper, alerts, hidden, offers_to_pay, page_of, text_of
from tests.shop.orders.steps import stock_of

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def ada() -> Shopper:
    return Shopper("Ada")


def errors(response: Any) -> dict[str, str]:
    """The messages beside the fields, by field."""
    found = re.findall(r'<p class="error" id="id_(\w+)_error">([^<]*)</p>', text_of(response))
    return {name: words.strip() for name, words in found}


# Contents


def test_it_shows_the_baskets_lines_and_its_total_and_leads_to_the_bank(
    ada: Shopper, make_product: MakeProduct
) -> None:
    ada.reserve(make_product(name="Lamp", price=Decimal("12.50")), 2)
    ada.reserve(make_product(name="Cup", price=Decimal("4.00")))
    page = ada.get("/checkout/")
    for shown in ("2 × Lamp", "€25.00", "1 × Cup", "€4.00", "€29.00", "€5.00", "€34.00"):
        assert shown in page
    answer = ada.check_out()
    order = Order.objects.get()
    assert (answer.status_code, order.total) == (302, Decimal("34.00"))
    assert "Order " + order.number in ada.get(answer["Location"])
    assert "Nothing reserved" in ada.get("/basket/")


def test_an_empty_basket_has_nothing_to_check_out(ada: Shopper) -> None:
    assert "Nothing to check out" in ada.get("/checkout/")
    answer = ada.client.post("/checkout/", {})
    assert answer.status_code == 422
    assert "Nothing to check out" in text_of(answer)


def test_an_unpaid_order_is_shown_on_each_page_where_the_buyer_could_start_again(
    ada: Shopper, make_product: MakeProduct
) -> None:
    product = make_product(1, name="Radio")
    order, _ = ada.order(product)
    for address in ("/basket/", "/checkout/", f"/products/{product.slug}/"):
        page = ada.get(address)
        assert f"<strong>{order.number}</strong> waits for its payment" in page
        assert f'href="{page_of(order)}"' in page
        assert f'href="{page_of(order)}cancellation/"' in page
    assert order.number not in Shopper("Bob").get("/basket/")
    assert order.number not in ada.get(f"/products/{make_product().slug}/")
    ada.cancel(order)
    assert order.number not in ada.get("/basket/")


def test_an_order_with_two_holds_of_a_product_is_shown_once(
    ada: Shopper, make_product: MakeProduct
) -> None:
    product = make_product()
    ada.reserve(product)
    order, _ = ada.order(product)
    assert order.lines.count() == 2
    assert ada.get(f"/products/{product.slug}/").count(f'href="{page_of(order)}"') == 1


# Entries


def test_errors_stand_beside_their_fields_and_no_entry_is_lost(
    ada: Shopper, make_product: MakeProduct
) -> None:
    product = make_product(5)
    ada.reserve(product)
    form = ada.checkout_form(name=" ", email="ada@", address="1 <Main> Street")
    answer = ada.check_out(form)
    assert answer.status_code == 422
    assert errors(answer) == {
        "name": "Enter the name to write on the parcel.",
        "email": "Enter an e-mail address, such as ada@example.org.",
    }
    page = answer.content.decode()
    assert 'value="ada@"' in page
    assert "1 &lt;Main&gt; Street" in page
    assert page.count("autofocus") == 1
    assert form["key"] in page
    assert not Order.objects.exists()
    form.update(name="Ada", email="ada@example.org")
    assert ada.check_out(form).status_code == 302


@pytest.mark.parametrize(
    ("field", "typed"),
    [
        ("name", "a" * 201),
        ("email", "a@b"),
        ("email", f"{'a' * 250}@example.org"),
        ("address", "x" * 1001),
        ("address", "\r\n \r\n"),
        ("postcode", ""),
        ("postcode", "1" * 21),
        ("town", " "),
        ("town", "x" * 101),
        ("country", ""),
        ("country", "XX"),
        ("country", "Germany"),
    ],
)
def test_an_entry_that_can_not_be_stored_has_an_error_at_its_field(
    ada: Shopper, make_product: MakeProduct, field: str, typed: str
) -> None:
    ada.reserve(make_product())
    answer = ada.check_out(**{field: typed})
    assert (answer.status_code, list(errors(answer))) == (422, [field])
    assert not Order.objects.exists()


def test_a_line_end_counts_as_one_character_as_in_the_browser(
    ada: Shopper, make_product: MakeProduct
) -> None:
    """A browser lets a buyer type 1,000 characters, and sends each line end as two."""
    ada.reserve(make_product())
    lines = [499 * "x", 250 * "y", 249 * "z"]
    answer = ada.check_out(address="\r\n".join(lines) + "z")
    assert (answer.status_code, list(errors(answer))) == (422, ["address"])
    form = ada.checkout_form(address="\r\n".join(lines))
    assert ada.check_out(form).status_code == 302
    order = Order.objects.get()
    assert order.street == "\n".join(lines)
    form["address"] = "\r\n".join(reversed(lines))
    assert ada.client.post(f"/orders/{order.token}/contact/", form).status_code == 302
    assert Order.objects.get().street == "\n".join(reversed(lines))


def test_line_ends_count_once_in_each_textarea_that_is_added() -> None:
    """As an example, a field of one line becomes a textarea."""

    class WithNote(ContactForm):
        class Meta(ContactForm.Meta):
            fields = (*ContactForm.Meta.fields, "tracking")  # type: ignore[assignment]
            widgets = {**ContactForm.Meta.widgets, "tracking": forms.Textarea()}

    typed = {"name": "Ada", "tracking": 50 * "a" + "\r\n" + 49 * "b"}
    assert "tracking" not in WithNote(typed).errors
    assert "tracking" in WithNote({**typed, "tracking": typed["tracking"] + "c"}).errors
    for line_end in ("\r\n", "\r", "\n"):
        form = WithNote({**typed, "tracking": f"a{line_end}b"})
        form.is_valid()
        assert form.cleaned_data["tracking"] == "a\nb"


@pytest.mark.parametrize(
    "changes",
    [
        {"key": ""},
        {"key": "x"},
        {"seen_total": ""},
        {"seen_total": "NaN"},
        {"seen_total": "1e999"},
    ],
)
def test_a_form_that_lacks_its_hidden_parts_is_to_be_sent_once_more(
    ada: Shopper, make_product: MakeProduct, changes: dict[str, str]
) -> None:
    ada.reserve(make_product())
    answer = ada.check_out(**changes)
    assert answer.status_code == 422
    assert "This form was incomplete." in alerts(answer)[0]
    assert 'value="Ada"' in text_of(answer)
    assert not Order.objects.exists()


@pytest.mark.parametrize("holds", [[], ["x"], [str(uuid.uuid4())]])
def test_holds_that_do_not_exist_order_nothing(
    ada: Shopper, make_product: MakeProduct, holds: list[str]
) -> None:
    ada.reserve(make_product())
    answer = ada.check_out(hold=holds)
    assert answer.status_code == 409
    assert "Nothing was ordered" in alerts(answer)[0]
    assert not Order.objects.exists()


# Changes meanwhile


def test_a_hold_that_was_taken_back_is_named_and_the_rest_can_be_ordered(
    ada: Shopper, make_product: MakeProduct
) -> None:
    gone, kept = make_product(1, name="Radio"), make_product(name="Lamp")
    ada.reserve(gone)
    ada.reserve(kept)
    form = ada.checkout_form()
    lapse(Reservation.objects.get(product=gone))
    reservations.reserve(gone, 1, buyer="somebody quicker")
    answer = ada.check_out(form)
    assert answer.status_code == 409
    assert alerts(answer) == [
        "Nothing was ordered: your basket has changed. Please look at it again.",
        "The time of your 1 × Radio is over, and others have it in their baskets now.",
    ]
    page = text_of(answer)
    assert "1 × Lamp" in page
    assert 'value="Ada"' in page
    assert ada.check_out().status_code == 302
    assert [line.name for line in Order.objects.get().lines.all()] == ["Lamp"]


def test_a_basket_that_was_changed_in_another_tab_is_shown_before_it_is_paid(
    ada: Shopper, make_product: MakeProduct
) -> None:
    ada.reserve(make_product(price=Decimal("10.00")), 3)
    form = ada.checkout_form()
    hold = Reservation.objects.get()
    ada.tab().client.post(
        f"/basket/holds/{hold.pk}/", {"quantity": 1, "seen": 3, "key": uuid.uuid4()}
    )
    answer = ada.check_out(form)
    assert answer.status_code == 409
    assert "the total is €15.00 now" in alerts(answer)[0]
    assert ada.check_out({**form, "seen_total": "15.00"}).status_code == 302


def test_a_total_that_an_order_can_not_store_has_an_error_whose_advice_works(
    ada: Shopper, make_product: MakeProduct, settings: Any
) -> None:
    """Shipping has become dearer since the reservation: only that makes a basket so large."""
    settings.SHIPPING_COST = Decimal("0.00")
    settings.MOST_UNITS_PER_BUYER, settings.MOST_UNITS_PER_ADDRESS = 100, None
    ada.reserve(make_product(99, price=Decimal("99999999.99")), 99)
    ada.reserve(make_product(price=Decimal("99999999.00")))
    settings.SHIPPING_COST = Decimal("5.00")
    answer = ada.check_out()
    assert answer.status_code == 409
    assert alerts(answer) == [
        "An order can come to €9,999,999,999.99 at most, and this would be €10,000,000,003.01. "
        "Take something out of your basket, and order it afterwards. Nothing was ordered."
    ]
    hold = Reservation.objects.earliest("created_at")
    ada.client.post(f"/basket/holds/{hold.pk}/", {"remove": "1"})
    assert ada.check_out().status_code == 302


def test_units_added_in_another_tab_stay_in_the_basket(
    ada: Shopper, make_product: MakeProduct
) -> None:
    ada.reserve(make_product(name="Lamp"))
    form = ada.checkout_form()
    ada.reserve(make_product(name="Cup"))
    assert ada.check_out(form).status_code == 302
    assert [line.name for line in Order.objects.get().lines.all()] == ["Lamp"]
    assert "1 × Cup" in ada.get("/checkout/")


def test_two_tabs_that_order_the_same_show_the_one_order(
    ada: Shopper, make_product: MakeProduct
) -> None:
    ada.reserve(make_product(name="Lamp"))
    first, second = ada.checkout_form(), ada.checkout_form()
    ada.check_out(first)
    answer = ada.check_out(second)
    order = Order.objects.get()
    assert answer.status_code == 409
    assert alerts(answer) == [f"Lamp is in your order {order.number} already."]
    assert f'href="{page_of(order)}"' in text_of(answer)


def test_another_buyers_holds_and_keys_are_of_no_use(
    ada: Shopper, make_product: MakeProduct
) -> None:
    product = make_product(5)
    ada.reserve(product)
    form = ada.checkout_form()
    thief = Shopper("Bob")
    answer = thief.check_out(form)
    assert (answer.status_code, Order.objects.count()) == (409, 0)
    ada.check_out(form)
    answer = thief.check_out(form)
    assert answer.status_code == 409
    assert Order.objects.get().token not in text_of(answer)
    thief.reserve(product)
    answer = thief.check_out(key=form["key"])
    assert (answer.status_code, Order.objects.count()) == (302, 2)


def test_two_browsers_with_one_e_mail_address_see_the_limit_before_paying(
    make_product: MakeProduct,
) -> None:
    product = make_product(10, name="Lamp", max_per_buyer=2)
    first, second = Shopper("Ada", "ada@example.org"), Shopper("Ada", " ADA@Example.ORG ")
    first.order(product, 2)
    second.reserve(product)
    answer = second.check_out()
    assert answer.status_code == 409
    assert alerts(answer) == [
        "At most 2 of Lamp per customer, in all orders together: this would make it 3. "
        "Nothing was ordered."
    ]
    assert (Order.objects.count(), Payment.objects.count()) == (1, 1)


# After the time is over


TYPED = {
    "name": "Ada <Lovelace>",
    "email": "ada@example.org",
    "address": "12 St James's Square\r\nFlat 2",
    "postcode": "SW1Y 4JH",
    "town": "London",
    "country": "GB",
}


def assert_still_there(response: Any, typed: dict[str, str]) -> None:
    """The page shows all entries in their fields."""
    page = response.content.decode()
    shown = {name: unescape(value) for name, value in INPUT.findall(page)}
    shown |= {name: unescape(text).strip() for name, text in TEXTAREA.findall(page)}
    shown["country"] = CHOSEN.findall(page)[0]
    assert {name: shown[name] for name in typed} == typed


INPUT = re.compile(r'<input type="(?:text|email)" name="(\w+)" value="([^"]*)"')
TEXTAREA = re.compile(r'<textarea name="(\w+)"[^>]*>\s*([^<]*)</textarea>')
CHOSEN = re.compile(r'<option value="(\w\w)" selected>')


def lapse_holds(ada: Shopper, form: dict[str, Any]) -> None:
    reservations.expire_lapsed(lapse(Reservation.objects.get()).product_id)


def empty_the_basket(ada: Shopper, form: dict[str, Any]) -> None:
    hold = Reservation.objects.get()
    ada.tab().client.post(f"/basket/holds/{hold.pk}/", {"remove": "1"})


def order_in_another_tab(ada: Shopper, form: dict[str, Any]) -> None:
    ada.tab().check_out()


def see_another_total(ada: Shopper, form: dict[str, Any]) -> None:
    form["seen_total"] = "1.00"


def lose_the_key(ada: Shopper, form: dict[str, Any]) -> None:
    form["key"] = ""


def lose_the_holds(ada: Shopper, form: dict[str, Any]) -> None:
    form["hold"] = []


def have_the_limit_already(ada: Shopper, form: dict[str, Any]) -> None:
    product = Product.objects.get()
    Product.objects.update(max_per_buyer=1)
    Shopper("Ada's other browser", form["email"]).order(product)


@pytest.mark.parametrize(
    "happens",
    [
        lapse_holds,
        empty_the_basket,
        order_in_another_tab,
        see_another_total,
        lose_the_key,
        lose_the_holds,
        have_the_limit_already,
    ],
)
def test_entries_survive_every_error(
    ada: Shopper, make_product: MakeProduct, happens: Callable[..., None]
) -> None:
    ada.reserve(make_product(5))
    form = ada.checkout_form(**TYPED)
    happens(ada, form)
    answer = ada.check_out(form)
    assert answer.status_code in (409, 422)
    assert alerts(answer)
    assert_still_there(answer, TYPED)


@pytest.mark.parametrize("field", ["name", "email", "address", "postcode", "town"])
def test_entries_survive_a_mistake_in_one_field(
    ada: Shopper, make_product: MakeProduct, field: str
) -> None:
    ada.reserve(make_product())
    answer = ada.check_out(**{**TYPED, field: " "})
    assert list(errors(answer)) == [field]
    assert_still_there(answer, {name: TYPED[name] for name in TYPED if name != field})


def test_lapsed_units_are_reserved_again_in_one_click_and_then_ordered(
    ada: Shopper, make_product: MakeProduct
) -> None:
    product = make_product(5, name="Lamp", price=Decimal("10.00"))
    ada.reserve(product, 2)
    form = ada.checkout_form(**TYPED)
    lapse_holds(ada, form)
    Product.objects.update(price=Decimal("12.00"))
    refused = ada.check_out(form)
    assert "Order and pay" not in text_of(refused)
    assert ">Reserve again<" in text_of(refused)
    again = {**form, "ended": hidden(text_of(refused), "ended"), "again": "1"}
    for _ in range(2):  # a double click counts once
        answer = ada.client.post("/checkout/", again)
        page = text_of(answer)
        assert "2 × Lamp reserved for you. The price is now €12.00 each" in page
        assert "the page showed €10.00" in page
        assert ">Reserve again<" not in page
        assert_still_there(answer, TYPED)
        assert stock_of(product) == 3
    form |= {"seen_total": hidden(page, "seen_total"), "hold": hidden(page, "hold")}
    assert ada.check_out(form).status_code == 302
    assert Order.objects.get().total == Decimal("29.00")


def test_units_reserved_again_are_not_called_lapsed_while_no_worker_runs(
    ada: Shopper, make_product: MakeProduct
) -> None:
    product = make_product(5, name="Lamp")
    ada.reserve(product, 2)
    form = ada.checkout_form()
    lapse(Reservation.objects.get())
    page = text_of(ada.client.post("/checkout/", {**form, "again": "1"}))
    assert "2 × Lamp reserved for you" in page
    assert "Lamp is over" not in page
    assert "Lamp is over" not in ada.get("/basket/")
    assert stock_of(product) == 3


def test_units_taken_by_others_are_not_offered_and_only_the_rest_comes_back(
    ada: Shopper, make_product: MakeProduct
) -> None:
    gone, there = make_product(1, name="Radio"), make_product(1, name="Lamp")
    ada.reserve(gone)
    ada.reserve(there)
    form = ada.checkout_form(**TYPED)
    for product in (gone, there):
        reservations.expire_lapsed(lapse(Reservation.objects.get(product=product)).product_id)
    reservations.reserve(gone, 1, buyer="somebody quicker")
    answer = ada.client.post("/checkout/", {**form, "again": "1"})
    assert alerts(answer) == [
        "All Radio are in baskets at the moment. Try again in a few minutes.",
        "The time of your 1 × Radio is over, and others have it in their baskets now.",
    ]
    page = text_of(answer)
    assert "1 × Lamp reserved for you" in page
    assert ">Reserve again<" not in page
    assert "Order and pay" in page
    assert_still_there(answer, TYPED)


def test_another_buyers_holds_are_not_reserved_again(
    ada: Shopper, make_product: MakeProduct
) -> None:
    product = make_product(5)
    ada.reserve(product)
    form = ada.checkout_form()
    lapse_holds(ada, form)
    answer = Shopper("Bob").client.post("/checkout/", {**form, "again": "1"})
    assert "reserved for you" not in text_of(answer)
    assert stock_of(product) == 5


def test_an_open_page_learns_the_end_of_its_time_and_sends_no_entries(
    ada: Shopper, make_product: MakeProduct
) -> None:
    ada.reserve(make_product(5, name="Lamp"))
    form = ada.checkout_form()

    def look() -> str:
        sent = {name: form[name] for name in ("hold", "seen_total")}
        return text_of(ada.client.get("/checkout/", sent, headers={"HX-Request": "true"}))

    assert "Order and pay" in look()
    assert "Yours for" in look()
    lapse_holds(ada, form)
    part = look()
    assert "<html" not in part
    assert "The time of your 1 × Lamp is over, and others may take it." in part
    assert ">Reserve again<" in part
    for words in ("Order and pay", "Yours for", 'name="email"'):
        assert words not in part


# The same form again, with a correction


def test_a_corrected_address_in_the_same_form_is_used_and_confirmed(
    ada: Shopper, make_product: MakeProduct
) -> None:
    ada.reserve(make_product())
    form = ada.checkout_form()
    ada.check_out(form)
    answer = ada.client.post("/checkout/", {**form, **TYPED}, follow=True)
    order = Order.objects.get()
    assert order.address == "12 St James's Square\nFlat 2\nLondon SW1Y 4JH\nUnited Kingdom"
    assert (order.name, order.email, order.email_key) == (
        "Ada <Lovelace>",
        "ada@example.org",
        "ada@example.org",
    )
    page = text_of(answer)
    assert f"Order {order.number} has your corrections now." in page
    assert "London SW1Y 4JH<br>United Kingdom" in page
    assert offers_to_pay(page)
    assert order.payments.count() == 1


def test_a_correction_after_the_payment_is_not_used_and_the_buyer_reads_so(
    ada: Shopper, make_product: MakeProduct
) -> None:
    ada.reserve(make_product())
    form = ada.checkout_form()
    ada.choose(ada.check_out(form)["Location"])
    order = Order.objects.get()
    ada.look(order)
    answer = ada.client.post("/checkout/", {**form, "town": "Shelbyville"}, follow=True)
    assert f"Order {order.number} is paid already." in alerts(answer)[0]
    assert "Your corrections came too late" in alerts(answer)[0]
    assert "Springfield" in Order.objects.get().address


def test_a_corrected_e_mail_does_not_get_around_the_limit_per_customer(
    ada: Shopper, make_product: MakeProduct
) -> None:
    product = make_product(5, name="Lamp", max_per_buyer=1)
    Shopper("Bob", "bob@example.org").order(product)
    ada.reserve(product)
    form = ada.checkout_form()
    ada.check_out(form)
    order = Order.objects.latest("pk")
    answer = ada.client.post("/checkout/", {**form, "email": " BOB@example.org"})
    assert answer.status_code == 409
    assert alerts(answer) == [
        "At most 1 of Lamp per customer, in all orders together: this would make it 2. "
        f"Order {order.number} stays as it was placed."
    ]
    order.refresh_from_db()
    assert (order.email, order.email_key) == ("ada@example.org", "ada@example.org")


def test_a_limit_that_was_lowered_since_keeps_nobody_from_correcting_the_street(
    ada: Shopper, make_product: MakeProduct
) -> None:
    ada.reserve(make_product(), 2)
    form = ada.checkout_form()
    ada.check_out(form)
    Product.objects.update(max_per_buyer=1)
    ada.check_out({**form, "address": "2 Side Street"})
    assert Order.objects.get().street == "2 Side Street"


def test_the_same_form_without_a_correction_leads_to_the_bank_without_a_notice(
    ada: Shopper, make_product: MakeProduct
) -> None:
    ada.reserve(make_product())
    form = ada.checkout_form(**TYPED)
    first = ada.check_out(form)
    assert ada.check_out(form)["Location"] == first["Location"]
    assert "corrections" not in ada.get("/basket/")


def test_the_same_form_for_other_goods_counts_once_and_the_buyer_reads_so(
    ada: Shopper, make_product: MakeProduct
) -> None:
    """An example is an older page, after an error since another tab had changed the sum."""
    ada.reserve(make_product(name="Lamp"))
    form = ada.checkout_form()
    ada.check_out(form)
    ada.reserve(make_product(name="Cup"))
    second = {name: ada.checkout_form()[name] for name in ("hold", "seen_total")}
    answer = ada.client.post("/checkout/", {**form, **second}, follow=True)
    order = Order.objects.get()
    assert answer.redirect_chain[-1][0] == page_of(order)
    assert (
        f"This form was sent before, and counts once. It has made order {order.number}"
        in (alerts(answer)[0])
    )
    assert [line.name for line in order.lines.all()] == ["Lamp"]
    assert "1 × Cup" in ada.get("/checkout/")


def test_a_correction_and_the_payment_at_once_end_in_one_of_two_ways(
    ada: Shopper, make_product: MakeProduct
) -> None:
    """The order is paid with the new address, or the buyer reads that it keeps the old one."""
    ada.reserve(make_product())
    form = ada.checkout_form()
    ada.choose(ada.check_out(form)["Location"])
    order = Order.objects.get()
    answer, _ = at_once(
        [
            lambda: ada.check_out({**form, "town": "Shelbyville"}),
            lambda: orders.settle(order.pk),
        ]
    )
    assert answer["Location"] == page_of(order)
    order.refresh_from_db()
    page = ada.look(order)
    assert order.state == Order.State.PAID
    assert ("has your corrections now" in page) == (order.town == "Shelbyville")
    assert ("Your corrections came too late" in page) == (order.town == "Springfield")


# Once only


def test_a_double_click_makes_one_order_and_one_charge(
    ada: Shopper, make_product: MakeProduct
) -> None:
    product = make_product(5)
    ada.reserve(product, 2)
    form = ada.checkout_form()
    tabs = [ada.tab() for _ in range(5)]
    answers = at_once([partial(tab.check_out, form) for tab in tabs])
    assert [answer.status_code for answer in answers] == [302] * 5
    assert len({answer["Location"] for answer in answers}) == 1
    assert (Order.objects.count(), DemoBankCharge.objects.count()) == (1, 1)
    assert stock_of(product) == 3


def test_back_button_and_resubmit_after_paying_lead_to_the_first_order(
    ada: Shopper, make_product: MakeProduct
) -> None:
    ada.reserve(make_product())
    form = ada.checkout_form()
    ada.choose(ada.check_out(form)["Location"])
    order = Order.objects.get()
    ada.look(order)
    answer = ada.check_out({**form, "name": "Somebody else"})
    assert (answer.status_code, answer["Location"]) == (302, page_of(order))
    assert (Order.objects.get().name, DemoBankCharge.objects.count()) == ("Ada", 1)


# The bank


def test_a_bank_that_can_not_be_reached_leaves_an_order_that_can_be_paid_later(
    ada: Shopper, make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(payment: Payment) -> None:
        raise ProviderUnavailable("No network.")

    ada.reserve(make_product())
    with monkeypatch.context() as patched:
        patched.setattr(payments, "start", fail)
        answer = ada.check_out()
    order = Order.objects.get()
    assert answer["Location"] == page_of(order)
    page = ada.look(order)
    assert "The bank can't be reached at the moment. Your order is kept" in page
    assert offers_to_pay(page)
    assert "/demo-bank/" in ada.pay(order)["Location"]
    assert order.payments.count() == 1


def test_an_order_that_costs_nothing_goes_past_the_bank(
    ada: Shopper, make_product: MakeProduct, settings: Any
) -> None:
    settings.SHIPPING_COST = Decimal("0.00")
    ada.reserve(make_product(price=Decimal("0.00")))
    answer = ada.check_out()
    order = Order.objects.get()
    assert answer["Location"].endswith(page_of(order))
    assert "Paid. Thank you!" in ada.look(order)


def test_a_form_from_another_site_is_rejected(make_product: MakeProduct) -> None:
    ada = Shopper()
    ada.client = Client(enforce_csrf_checks=True)
    assert ada.client.post("/checkout/", {}).status_code == 403


class _Elsewhere(demo.DemoBank):
    origin = "https://pay.example.org"


def test_forms_may_lead_to_the_payment_providers_site_and_nowhere_else(
    ada: Shopper, settings: Any
) -> None:
    def form_action() -> str:
        policy = ada.client.get("/checkout/")["Content-Security-Policy"]
        [directive] = re.findall(r"form-action ([^;]*);", policy)
        return str(directive)

    assert form_action() == "'self'"
    settings.PAYMENT_PROVIDER = f"{__name__}._Elsewhere"
    assert form_action() == "'self' https://pay.example.org"
    admin = ada.client.get("/admin/login/")["Content-Security-Policy"]
    assert "pay.example.org" not in admin


def test_a_product_switched_off_meanwhile_can_still_be_bought_by_its_holder(
    ada: Shopper, make_product: MakeProduct
) -> None:
    product = make_product(5, name="Lamp")
    ada.reserve(product, 2)
    Product.objects.filter(pk=product.pk).update(is_active=False)
    assert "No longer for sale: you can still buy what you hold" in ada.get("/basket/")
    assert "no longer for sale: you can still buy these" in ada.get("/checkout/")
    assert ada.reserve(product).status_code == 409
    ada.choose(ada.check_out()["Location"])
    order = Order.objects.get()
    assert "Paid. Thank you!" in ada.look(order)
    assert stock_of(product) == 3
