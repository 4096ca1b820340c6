"""Reserving, and the basket: through the pages, as buyers use them."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from functools import partial
from html import unescape
from typing import Any

import pytest
from django.conf import LazySettings
from django.db.models.functions import Now
from django.test import Client
from django.utils.html import escape

from inventory import reservations
from inventory.exceptions import InsufficientStock
from inventory.models import Product, Reservation
from inventory.reservations import Wanted
from tests.concurrency import at_once, lapse
from tests.conftest import MakeProduct
from tests.shop.conftest import Reserve, both_ways
from tests.shop.orders.pages import html_of, text_of

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("way"), both_ways]


def stock(product: Product) -> int:
    return Product.objects.get(pk=product.pk).stock


def quantities(product: Product) -> list[int]:
    """The quantities of all open holds of a product, oldest first."""
    holds = Reservation.objects.alive().filter(product=product).order_by("created_at")
    return list(holds.values_list("quantity", flat=True))


def error(response: Any) -> str:
    """The message beside the quantity field."""
    [text] = re.findall(r'<p class="error"[^>]*>([^<]*)</p>', html_of(response))
    return str(text).strip()


def change(
    client: Client, hold: Reservation, quantity: object, *, seen: int, key: object = None
) -> Any:
    form = {"quantity": quantity, "seen": seen, "key": key or uuid.uuid4()}
    return client.post(f"/basket/holds/{hold.pk}/", form)


# Reserving


def test_reserving_leads_to_the_basket(
    client: Client, make_product: MakeProduct, reserve: Reserve
) -> None:
    product = make_product(10, name="Lamp", price=Decimal("12.50"))
    response = reserve(product, 2)
    assert (response.status_code, response["Location"]) == (302, "/basket/")
    content = html_of(client.get("/basket/"))
    assert "2 × Lamp reserved for you" in content
    assert "€25.00" in content
    assert "€29.90" in content  # with shipping
    assert stock(product) == 8
    [hold] = Reservation.objects.all()
    assert hold.strategy == "combined"


def test_the_product_page_has_all_that_the_form_needs(
    client: Client, make_product: MakeProduct
) -> None:
    product = make_product()
    content = html_of(client.get(f"/products/{product.slug}/"))
    inputs = dict(re.findall(r'<input[^>]*name="([^"]*)"[^>]*value="([^"]*)"', content))
    assert inputs["product"] == product.slug
    client.post("/basket/holds/", inputs)
    assert quantities(product) == [1]


NO_NUMBERS = ["abc", "1.5", "2,5", "1e3", "1_0", "0x1", "²", "1 2", "<b>"]
NO_QUANTITIES = ["0", "-1", "-3", "", "  ", *NO_NUMBERS, "9" * 5000]


@pytest.mark.parametrize("typed", NO_QUANTITIES)
def test_a_wrong_quantity_has_its_error_beside_the_field_and_nothing_is_lost(
    client: Client, make_product: MakeProduct, reserve: Reserve, typed: str
) -> None:
    product = make_product(10)
    response = reserve(product, typed)
    assert response.status_code == 422
    assert error(response).startswith(("Quantity:", "Enter how many"))
    shown = escape(typed[:100])
    assert (
        f'name="quantity" type="text" inputmode="numeric" autocomplete="off" value="{shown}"'
        in (html_of(response))
    )
    assert stock(product) == 10
    assert not Reservation.objects.exists()
    assert client.get("/basket/").status_code == 200


@pytest.mark.parametrize("typed", ["21", "900000000", "87893287498", str(10**21), "9" * 100])
def test_a_quantity_beyond_all_limits_has_an_error(
    client: Client, make_product: MakeProduct, reserve: Reserve, typed: str
) -> None:
    product = make_product(1000)
    response = reserve(product, typed)
    assert response.status_code == 409
    assert error(response) == "You can reserve 20 units at a time."
    assert typed in html_of(response)
    assert stock(product) == 1000
    assert client.get("/basket/").status_code == 200


@pytest.mark.parametrize("typed", ["2", "+2", " 2 ", "02"])
def test_a_whole_number_is_understood_in_every_spelling(
    make_product: MakeProduct, reserve: Reserve, typed: str
) -> None:
    product = make_product(10)
    reserve(product, typed)
    assert quantities(product) == [2]


def test_a_refusal_of_one_unit_too_many_names_the_number_left(
    make_product: MakeProduct, reserve: Reserve
) -> None:
    product = make_product(3, name="Clock")
    response = reserve(product, 4)
    assert response.status_code == 409
    assert error(response) == "There are only 3 of Clock left."
    assert product.sku not in error(response)
    assert stock(product) == 3


def test_a_sold_out_product_and_one_in_all_baskets_are_told_apart(
    make_product: MakeProduct, reserve: Reserve
) -> None:
    gone = make_product(0, name="Clock")
    assert error(reserve(gone)) == "Clock is sold out."
    held = make_product(1, name="Lamp")
    reservations.reserve(held, 1, buyer="somebody else")
    assert (
        error(reserve(held)) == "All Lamp are in baskets at the moment. Try again in a few minutes."
    )


def test_a_buyer_who_holds_all_units_left_is_not_asked_to_wait(
    client: Client, make_product: MakeProduct, reserve: Reserve
) -> None:
    product = make_product(2, name="Lamp")
    reservations.confirm(reservations.reserve(product, 1, buyer="somebody").pk)
    reserve(product)
    assert error(reserve(product)) == "You hold all of Lamp that are left."
    hold = Reservation.objects.held().get()
    assert error(change(client, hold, 2, seen=1)) == "You hold all of Lamp that are left."


@pytest.mark.breaks_law
def test_units_that_only_make_up_for_an_oversell_are_not_worth_waiting_for(
    make_product: MakeProduct, reserve: Reserve
) -> None:
    product = make_product(2, name="Lamp", backstop=False)
    reservations.reserve(product, 2, buyer="somebody")
    Product.objects.filter(pk=product.pk).update(stock=-2)
    assert error(reserve(product)) == "Lamp is sold out."
    Product.objects.filter(pk=product.pk).update(stock=-1)
    assert "Try again in a few minutes" in error(reserve(product))


def test_units_that_come_back_while_one_is_refused_are_not_called_sold_out(
    make_product: MakeProduct, reserve: Reserve, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = make_product(3, name="Lamp")

    def refuse_and_release(product: Product, quantity: int, **kwargs: object) -> None:
        raise InsufficientStock(product.sku, quantity, 0)  # meanwhile there are three

    def refuse_all_and_release(product: Product, wanted: Sequence[Wanted]) -> list[Exception]:
        return [InsufficientStock(product.sku, each.quantity, 0) for each in wanted]

    monkeypatch.setattr("inventory.reservations.reserve", refuse_and_release)
    monkeypatch.setattr("inventory.reservations.reserve_for_many", refuse_all_and_release)
    words = "Somebody has just let some of Lamp go. Please try once more."
    assert error(reserve(product, 2)) == words
    assert error(reserve(product, 4)) == "There are only 3 of Lamp left."


@pytest.mark.parametrize(("units", "is_refused"), [(99, False), (100, True)])
def test_a_basket_costs_no_more_than_an_order_can_store(
    client: Client,
    make_product: MakeProduct,
    reserve: Reserve,
    settings: Any,
    units: int,
    is_refused: bool,
) -> None:
    settings.MOST_UNITS_PER_BUYER, settings.MOST_UNITS_PER_ADDRESS = 1000, None
    product = make_product(200, price=Decimal("99999999.99"))  # the highest price there is
    response = reserve(product, units)
    assert (response.status_code == 409) is is_refused
    if is_refused:
        assert (
            error(response) == "A basket can come to €9,999,999,999.99 at most, shipping included."
        )
    else:
        assert error(reserve(product)).startswith("A basket can come to €9,999,999,999.99 at most")
        hold = Reservation.objects.get()
        assert error(change(client, hold, 100, seen=99)).startswith("A basket can come to")
    assert sum(quantities(product)) == (0 if is_refused else 99)


def test_the_message_names_the_limit_for_each_customer(
    make_product: MakeProduct, reserve: Reserve
) -> None:
    product = make_product(10, name="Laptop", max_per_buyer=2)
    assert error(reserve(product, 3)) == "Each customer can have 2 of Laptop."
    reserve(product, 1)
    assert (
        error(reserve(product, 2)) == "Each customer can have 2 of Laptop, and you have 1 already."
    )


def test_a_product_switched_off_meanwhile_is_not_for_sale(
    make_product: MakeProduct, reserve: Reserve
) -> None:
    product = make_product(name="Lamp", is_active=False)
    assert error(reserve(product)) == "Lamp is not for sale at the moment."
    assert stock(product) == 10


@pytest.mark.parametrize("slug", ["nothing", "", "../admin"])
def test_reserving_a_missing_product_is_a_404(client: Client, slug: str) -> None:
    form = {"product": slug, "quantity": 1, "key": uuid.uuid4()}
    assert client.post("/basket/holds/", form).status_code == 404


@pytest.mark.parametrize("key", ["", "abc", "x" * 10_000])
def test_a_form_without_a_proper_key_is_to_be_sent_once_more(
    client: Client, make_product: MakeProduct, key: str
) -> None:
    product = make_product()
    form = {"product": product.slug, "quantity": 1, "key": key}
    response = client.post("/basket/holds/", form)
    assert response.status_code == 422
    assert error(response) == "This form was incomplete. Please send it once more."
    assert stock(product) == 10


def test_the_price_is_the_one_shown_when_it_was_reserved(
    client: Client, make_product: MakeProduct, reserve: Reserve
) -> None:
    product = make_product(price=Decimal("10.00"))
    reserve(product)
    Product.objects.filter(pk=product.pk).update(price=Decimal("99.00"))
    content = html_of(client.get("/basket/"))
    assert "€10.00" in content
    assert "€99.00" not in content


def test_reloading_the_address_of_a_form_with_errors_shows_the_basket(client: Client) -> None:
    assert client.get("/basket/holds/")["Location"] == "/basket/"
    assert client.get(f"/basket/holds/{uuid.uuid4()}/")["Location"] == "/basket/"


# The price that the page showed


def reserve_at(client: Client, product: Product, units: int, seen_price: object) -> str:
    """The basket's page after reserving on a page that showed this price."""
    form = {
        "product": product.slug,
        "quantity": units,
        "key": uuid.uuid4(),
        "seen_price": seen_price,
    }
    response: Any = client.post("/basket/holds/", form, follow=True)
    return text_of(response)


def said(page: str) -> list[str]:
    """The sentences at the top of a page, without their links."""
    found = re.findall(r'<p class="message[^"]*"[^>]*>(.*?)</p>', page)
    return [re.sub(r"\s*<a .*", "", words).strip() for words in found]


@pytest.mark.parametrize("now", ["25.00", "8.50"])
def test_a_price_that_changed_while_the_page_was_open_is_shown_before_it_is_paid(
    client: Client, make_product: MakeProduct, now: str
) -> None:
    product = make_product(name="Lamp", price=Decimal("10.00"))
    page = html_of(client.get(f"/products/{product.slug}/"))
    [seen] = re.findall(r'name="seen_price" value="([^"]*)"', page)
    Product.objects.filter(pk=product.pk).update(price=Decimal(now))
    assert said(reserve_at(client, product, 2, seen)) == [
        f"2 × Lamp reserved for you. The price is now €{now} each; the page showed €10.00. "
        "If you don't want them at this price, remove them."
    ]
    assert said(text_of(client.get("/basket/"))) == []  # shown once


def test_the_price_is_shown_even_if_another_page_is_read_before_the_basket(
    client: Client, make_product: MakeProduct
) -> None:
    product = make_product(name="Lamp", price=Decimal("10.00"))
    form = {"product": product.slug, "quantity": 1, "key": uuid.uuid4(), "seen_price": "8.00"}
    client.post("/basket/holds/", form)
    for page in ("/help/stock/", "/", f"/products/{product.slug}/"):
        assert said(text_of(client.get(page))) == []
    [words] = said(text_of(client.get("/checkout/")))
    assert "The price is now €10.00; the page showed €8.00" in words


def test_an_unchanged_price_is_named_without_a_warning(
    client: Client, make_product: MakeProduct
) -> None:
    product = make_product(name="Lamp", price=Decimal("10.00"))
    words = ["1 × Lamp reserved for you. The price is €10.00."]
    assert said(reserve_at(client, product, 1, "10.00")) == words
    assert said(reserve_at(client, product, 1, "10")) == words


@pytest.mark.parametrize(
    "sent", ["", "abc", "-1", "NaN", "1e5", "10,00", "9" * 50, "１０", "10.00 "]
)
def test_a_seen_price_that_makes_no_sense_is_ignored(
    client: Client, make_product: MakeProduct, sent: str
) -> None:
    product = make_product(name="Lamp", price=Decimal("10.00"))
    page = reserve_at(client, product, 1, sent)
    assert said(page) == ["1 × Lamp reserved for you. The price is €10.00."]


def test_the_help_page_says_which_price_is_paid(client: Client) -> None:
    page = html_of(client.get("/help/stock/"))
    assert "tells you if the product's page had shown another price" in page


# Once only


def test_the_same_form_twice_counts_once(
    client: Client, make_product: MakeProduct, reserve: Reserve
) -> None:
    product, key = make_product(10), uuid.uuid4()
    first, second = reserve(product, 2, key=key), reserve(product, 2, key=key)
    assert first["Location"] == second["Location"]
    assert quantities(product) == [2]
    assert client.get("/basket/").content.count(b"2 \xc3\x97") > 0


def test_the_form_sent_again_for_the_last_unit_shows_the_first_result(
    make_product: MakeProduct, reserve: Reserve
) -> None:
    product, key = make_product(1), uuid.uuid4()
    reserve(product, 1, key=key)
    assert reserve(product, 1, key=key).status_code == 302
    assert quantities(product) == [1]


def test_an_old_form_with_another_quantity_says_that_it_counts_once(
    client: Client, make_product: MakeProduct, reserve: Reserve
) -> None:
    product, key = make_product(10), uuid.uuid4()
    reserve(product, 2, key=key)
    client.get("/basket/")
    reserve(product, 5, key=key)
    assert b"was sent before, and counts once" in client.get("/basket/").content
    assert quantities(product) == [2]


def test_two_buyers_with_one_key_each_get_theirs(
    make_product: MakeProduct, reserve: Reserve
) -> None:
    product, key = make_product(10), uuid.uuid4()
    reserve(product, 1, key=key)
    reserve(product, 2, key=key, by=Client())
    assert quantities(product) == [1, 2]


@pytest.mark.django_db(transaction=True)
def test_a_double_click_counts_once(make_product: MakeProduct, reserve: Reserve) -> None:
    product, key = make_product(10), uuid.uuid4()
    tabs = _tabs_of_one_buyer(product, 8)
    results = at_once([partial(reserve, product, 1, key=key, by=tab) for tab in tabs])
    assert {result.status_code for result in results} == {302}
    assert quantities(product) == [1]


@pytest.mark.django_db(transaction=True)
def test_ten_buyers_after_the_last_unit(make_product: MakeProduct, reserve: Reserve) -> None:
    product = make_product(1)
    results = at_once([lambda: reserve(product, 1, by=Client())] * 10)
    assert sorted(result.status_code for result in results) == [302] + [409] * 9
    assert quantities(product) == [1]


@pytest.mark.django_db(transaction=True)
def test_one_buyer_in_many_tabs_never_gets_past_the_limits(
    make_product: MakeProduct, reserve: Reserve, settings: Any
) -> None:
    settings.MOST_UNITS_PER_BUYER, settings.MOST_HOLDS_PER_BUYER = 5, 3
    product = make_product(100)
    tabs = _tabs_of_one_buyer(product, 8)
    results = at_once([partial(reserve, product, 2, by=tab) for tab in tabs])
    assert {result.status_code for result in results} <= {302, 409}
    assert sum(quantities(product)) <= 5
    while reserve(product, 1, by=tabs[0]).status_code == 302:
        pass
    assert len(quantities(product)) <= 3
    assert stock(product) == 100 - sum(quantities(product))


def _tabs_of_one_buyer(product: Product, count: int) -> list[Client]:
    first = Client()
    first.get(f"/products/{product.slug}/")
    tabs = [Client() for _ in range(count)]
    for tab in tabs:
        tab.cookies["buyer"] = first.cookies["buyer"].value
    return tabs


# Limits of one buyer


def test_a_basket_has_limits_of_units_and_of_holds(
    make_product: MakeProduct, reserve: Reserve, settings: Any
) -> None:
    settings.MOST_UNITS_PER_BUYER, settings.MOST_HOLDS_PER_BUYER = 5, 2
    product = make_product(100)
    reserve(product, 3)
    assert error(reserve(product, 3)) == (
        "You can reserve 5 units at a time, and have 3 already, those of unpaid orders included."
    )
    reserve(product, 1)
    assert error(reserve(product, 1)).startswith("Your basket is full: it can hold 2 reservations")
    lapse(Reservation.objects.earliest("created_at"))
    assert reserve(product, 4).status_code == 302


# Changing and removing


@pytest.fixture
def hold(make_product: MakeProduct, reserve: Reserve) -> Reservation:
    """A hold of 3 of 10 lamps at €10, of the test's buyer."""
    reserve(make_product(10, name="Lamp", price=Decimal("10.00")), 3)
    return Reservation.objects.get()


def test_fewer_units_go_back_on_sale(client: Client, hold: Reservation) -> None:
    assert change(client, hold, 1, seen=3)["Location"] == "/basket/"
    assert b"You now hold 1" in client.get("/basket/").content
    assert quantities(hold.product) == [1]
    assert stock(hold.product) == 9


def test_fewer_sent_twice_counts_once(client: Client, hold: Reservation) -> None:
    for _ in range(2):
        assert change(client, hold, 2, seen=3).status_code == 302
    assert quantities(hold.product) == [2]


def test_more_units_become_a_hold_of_their_own(client: Client, hold: Reservation) -> None:
    Product.objects.filter(pk=hold.product_id).update(price=Decimal("12.00"))
    key = uuid.uuid4()
    for _ in range(2):  # sent twice it counts once
        assert change(client, hold, 5, seen=3, key=key)["Location"] == "/basket/"
    assert quantities(hold.product) == [3, 2]
    content = text_of(client.get("/basket/"))
    assert said(content)[1:] == [
        "2 × Lamp added, with a time of their own. The price is now €12.00 each; the page showed "
        "€10.00. If you don't want them at this price, remove them."
    ]
    assert "€30.00" in content
    assert "€24.00" in content


def test_a_refusal_is_shown_beside_the_field(client: Client, hold: Reservation) -> None:
    response = change(client, hold, 11, seen=3)
    assert response.status_code == 409
    assert error(response) == "There are only 7 of Lamp left."
    assert 'value="11"' in html_of(response)
    assert quantities(hold.product) == [3]


@pytest.mark.parametrize("typed", ["0", "-1", "", "abc", "1.5"])
def test_a_change_to_a_wrong_quantity_has_its_error_beside_the_field(
    client: Client, hold: Reservation, typed: str
) -> None:
    response = change(client, hold, typed, seen=3)
    assert response.status_code == 422
    assert error(response)
    assert quantities(hold.product) == [3]


@pytest.mark.parametrize("sent", [{"seen": ""}, {"seen": "x"}, {"seen": "0"}, {"key": "x"}])
def test_a_change_without_what_the_page_should_send_is_to_be_sent_once_more(
    client: Client, hold: Reservation, sent: dict[str, str]
) -> None:
    form = {"quantity": "2", "seen": "3", "key": str(uuid.uuid4()), **sent}
    response = client.post(f"/basket/holds/{hold.pk}/", form)
    assert response.status_code == 422
    assert error(response) == "This form was incomplete. Please send it once more."
    assert quantities(hold.product) == [3]


@pytest.mark.parametrize("taken_back", [False, True])
def test_a_change_of_a_lapsed_hold_says_so_once(
    client: Client, hold: Reservation, taken_back: bool
) -> None:
    lapse(hold)
    if taken_back:
        reservations.expire_lapsed()
    page = text_of(change(client, hold, 1, seen=3))
    words = ["The time of your 3 × Lamp is over, and others may take them."]
    assert [each for each in said(page) if "reserved for you" not in each] == words


@pytest.mark.parametrize("wanted", [1, 2])
def test_a_change_of_a_hold_removed_in_another_tab_says_so(
    client: Client, hold: Reservation, wanted: int
) -> None:
    client.post(f"/basket/holds/{hold.pk}/", {"remove": "1"})
    client.get("/basket/")
    response = change(client, hold, wanted, seen=3)
    assert response.status_code == 409
    assert said(text_of(response)) == ["3 × Lamp were removed from your basket."]


@pytest.mark.parametrize("wanted", [1, 4])
def test_a_change_of_a_hold_changed_in_another_tab_has_an_error(
    client: Client, hold: Reservation, wanted: int
) -> None:
    change(client, hold, 2, seen=3)
    response = change(client, hold, wanted, seen=3)
    assert response.status_code == 409
    assert "changed meanwhile" in error(response)
    assert quantities(hold.product) == [2]


def test_removing_gives_the_units_back_once(client: Client, hold: Reservation) -> None:
    for _ in range(2):
        response = client.post(f"/basket/holds/{hold.pk}/", {"remove": "1"})
        assert response["Location"] == "/basket/"
    assert b"Lamp removed from your basket" in client.get("/basket/").content
    assert stock(hold.product) == 10


def test_a_hold_that_is_paid_for_cannot_be_removed(client: Client, hold: Reservation) -> None:
    reservations.confirm(hold.pk)
    client.post(f"/basket/holds/{hold.pk}/", {"remove": "1"})
    assert b"Lamp has been paid for" in client.get("/basket/").content
    assert stock(hold.product) == 7


def test_another_buyers_hold_is_not_there(hold: Reservation) -> None:
    thief = Client()
    assert thief.post(f"/basket/holds/{hold.pk}/", {"remove": "1"}).status_code == 404
    assert change(thief, hold, 1, seen=3).status_code == 404
    assert b"Lamp" not in thief.get("/basket/", {"seen": str(hold.pk)}).content
    assert quantities(hold.product) == [3]


# One line for each product and price


def lines(client: Client) -> list[dict[str, Any]]:
    """The lines that the basket's page shows, each with its form."""
    page = text_of(client.get("/basket/"))
    return [
        {
            "sum": _words(re.findall(r'hold__price">(.*?)</p>', line)[0]),
            "time": _words(re.findall(r'hold__time">(.*?)</p>', line)[0]),
            "action": re.findall(r'action="([^"]*)"', line)[0],
            "form": {
                name: re.findall(rf'name="{name}" value="([^"]*)"', line)
                for name in ("seen", "key", "hold")
            },
        }
        for line in re.findall(r'<li class="hold">(.*?)</li>', page, re.DOTALL)
    ]


def _words(html: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", "", html).split())


@pytest.fixture
def two_holds(make_product: MakeProduct, reserve: Reserve) -> list[Reservation]:
    """Two holds of ten lamps at €10: one of 2 that lapses in three minutes, and one of 3."""
    product = make_product(10, name="Lamp", price=Decimal("10.00"))
    for units in (2, 3):
        reserve(product, units)
    first, second = Reservation.objects.order_by("created_at")
    Reservation.objects.filter(pk=first.pk).update(expires_at=Now() + timedelta(minutes=3))
    return [first, second]


def test_several_holds_are_one_line_with_the_time_of_the_first_to_lapse(
    client: Client, two_holds: list[Reservation]
) -> None:
    [line] = lines(client)
    assert line["sum"] == "5 × €10.00 = €50.00"
    words = r"Yours for (3:00|2:5\d) That is 2 of the 5\. The others are yours for longer\."
    assert re.fullmatch(words, line["time"])
    assert set(line["form"]["hold"]) == {str(hold.pk) for hold in two_holds}


def test_another_price_is_another_line_and_so_is_another_product(
    client: Client, make_product: MakeProduct, reserve: Reserve, two_holds: list[Reservation]
) -> None:
    Product.objects.filter(pk=two_holds[0].product_id).update(price=Decimal("12.00"))
    reserve(two_holds[0].product, 1)
    reserve(make_product(name="Lamp", price=Decimal("12.00")), 1)
    assert [line["sum"] for line in lines(client)] == [
        "5 × €10.00 = €50.00",
        "1 × €12.00 = €12.00",
        "1 × €12.00 = €12.00",
    ]


def test_words_about_a_line_name_its_price_if_there_are_two_prices(
    client: Client, reserve: Reserve, two_holds: list[Reservation]
) -> None:
    Product.objects.filter(pk=two_holds[0].product_id).update(price=Decimal("12.00"))
    reserve(two_holds[0].product, 1)
    line, _ = lines(client)
    answer = client.post(line["action"], {**line["form"], "quantity": 4}, follow=True)
    assert said(text_of(answer)) == ["You now hold 4 × Lamp at €10.00 (5 in all)."]
    refused = client.post(line["action"], {**line["form"], "quantity": 3})
    assert "You hold 4 × Lamp at €10.00 (5 in all) now." in unescape(error(refused))


def test_limits_of_one_are_in_the_singular(
    make_product: MakeProduct, reserve: Reserve, settings: LazySettings
) -> None:
    product = make_product()
    settings.MOST_UNITS_PER_ADDRESS = 1
    assert "At most 1 unit can be" in error(reserve(product, 2))
    settings.MOST_UNITS_PER_BUYER = 1
    assert error(reserve(product, 2)) == "You can reserve 1 unit at a time."
    reserve(product, 1)
    assert error(reserve(product, 1)).startswith(
        "You can reserve 1 unit at a time, and have 1 already"
    )
    settings.MOST_UNITS_PER_BUYER, settings.MOST_HOLDS_PER_BUYER = 9, 1
    assert "it can hold 1 reservation at a time" in error(reserve(product, 1))
    settings.MOST_HOLDS_PER_BUYER = 9
    assert error(reserve(product, 1)).startswith("1 unit is reserved from your internet")


@pytest.mark.parametrize(
    ("wanted", "kept"), [(4, [1, 3]), (3, [3]), (2, [2]), (1, [1])], ids=lambda value: str(value)
)
def test_fewer_of_a_line_keeps_those_that_last_longest(
    client: Client, two_holds: list[Reservation], wanted: int, kept: list[int]
) -> None:
    [line] = lines(client)
    for _ in range(2):  # sent twice it counts once
        answer = client.post(line["action"], {**line["form"], "quantity": wanted}, follow=True)
        assert said(text_of(answer)) == [f"You now hold {wanted} × Lamp."]
    assert quantities(two_holds[0].product) == kept
    assert stock(two_holds[0].product) == 10 - wanted
    assert Reservation.objects.get(pk=two_holds[1].pk).quantity == kept[-1]


def test_more_of_a_line_adds_a_hold_once(client: Client, two_holds: list[Reservation]) -> None:
    [line] = lines(client)
    for _ in range(2):
        client.post(line["action"], {**line["form"], "quantity": 6})
    assert quantities(two_holds[0].product) == [2, 3, 1]
    assert lines(client)[0]["sum"] == "6 × €10.00 = €60.00"


def test_an_old_form_changes_nothing_though_the_number_of_units_is_the_same_again(
    client: Client, two_holds: list[Reservation]
) -> None:
    [old] = lines(client)
    client.post(old["action"], {**old["form"], "quantity": 4})
    [line] = lines(client)
    client.post(line["action"], {**line["form"], "quantity": 5})
    answer = client.post(old["action"], {**old["form"], "quantity": 4})
    assert answer.status_code == 409
    assert "You hold 5 × Lamp now" in error(answer)
    assert sum(quantities(two_holds[0].product)) == 5


def test_removing_a_line_releases_the_holds_that_it_showed_and_no_others(
    client: Client, reserve: Reserve, two_holds: list[Reservation]
) -> None:
    [line] = lines(client)
    reserve(two_holds[0].product, 1)  # in another tab
    client.get("/basket/")
    for _ in range(2):
        answer = client.post(line["action"], {**line["form"], "remove": "1"}, follow=True)
        assert said(text_of(answer)) == ["5 × Lamp removed from your basket. You still hold 1."]
    assert quantities(two_holds[0].product) == [1]


def test_removing_by_the_address_alone_removes_the_line(
    client: Client, two_holds: list[Reservation]
) -> None:
    client.post(f"/basket/holds/{two_holds[0].pk}/", {"remove": "1"})
    assert stock(two_holds[0].product) == 10


def test_a_change_of_a_line_with_a_lapsed_hold_says_so_and_changes_nothing(
    client: Client, two_holds: list[Reservation]
) -> None:
    [line] = lines(client)
    lapse(two_holds[0])
    answer = client.post(line["action"], {**line["form"], "quantity": 4})
    assert answer.status_code == 409
    assert error(answer) == "Your time for 2 × Lamp is over. You hold 3 × Lamp now."
    assert quantities(two_holds[0].product) == [3]


@pytest.mark.django_db(transaction=True)
def test_lines_changed_in_many_tabs_at_once_lose_and_gain_no_units(
    client: Client, two_holds: list[Reservation]
) -> None:
    [line] = lines(client)
    tabs = [Client() for _ in range(6)]
    for tab in tabs:
        tab.cookies["buyer"] = client.cookies["buyer"].value
    forms: list[dict[str, Any]] = [{"quantity": 4}, {"quantity": 1}, {"remove": "1"}] * 2
    results = at_once(
        [
            partial(tab.post, line["action"], {**line["form"], **form})
            for tab, form in zip(tabs, forms, strict=True)
        ]
    )
    assert {result.status_code for result in results} <= {302, 409}
    assert quantities(two_holds[0].product) == []  # a removal takes all that is left, whenever
    assert stock(two_holds[0].product) == 10


# Time


def seconds_left(response: Any) -> list[int]:
    return [int(s) for s in re.findall(r'data-seconds="(-?\d+)"', html_of(response))]


def test_the_countdown_is_by_the_databases_clock(client: Client, hold: Reservation) -> None:
    assert all(590 < seconds <= 600 for seconds in seconds_left(client.get("/basket/")))
    Reservation.objects.filter(pk=hold.pk).update(expires_at=hold.created_at)
    assert seconds_left(client.get("/basket/")) == []


@pytest.mark.parametrize("taken_back", [False, True])
def test_a_page_that_asks_at_the_end_learns_that_the_time_is_over(
    client: Client, hold: Reservation, taken_back: bool
) -> None:
    lapse(hold)
    if taken_back:
        reservations.expire_lapsed()
    response = client.get("/basket/", {"seen": str(hold.pk)}, headers={"HX-Request": "true"})
    content = html_of(response)
    assert "The time of your 3 × Lamp is over" in content
    assert "<html" not in content
    assert re.search(r'id="basket-count"[^>]*>0<', content)


@pytest.mark.parametrize("wanted", [1, 5])
def test_a_change_after_the_end_has_an_error(
    client: Client, hold: Reservation, wanted: int
) -> None:
    lapse(hold)
    client.post(f"/basket/holds/{hold.pk}/", {"quantity": wanted, "seen": 3, "key": uuid.uuid4()})
    assert quantities(hold.product) == []


def test_odd_ids_of_seen_holds_are_ignored(client: Client) -> None:
    assert client.get("/basket/", {"seen": ["x", ""]}).status_code == 200
