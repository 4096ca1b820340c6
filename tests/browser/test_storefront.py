"""The storefront up to the basket, as a buyer's browser sees it."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.db.models.functions import Now
from playwright.sync_api import Page, expect

from inventory import reservations
from inventory.models import Product, Reservation
from tests.browser.conftest import NewPage
from tests.conftest import MakeProduct

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


def reserve(page: Page, product: Product, quantity: str = "1") -> None:
    page.goto(f"/products/{product.slug}/")
    page.get_by_label("Quantity").fill(quantity)
    page.get_by_role("button", name="Reserve", exact=True).click()


def test_browse_search_reserve_change_and_remove(page: Page, make_product: MakeProduct) -> None:
    make_product(name="Candle")
    product = make_product(12, name="Brass lamp")
    page.goto("/")
    page.get_by_label("Search for products").fill("lamp")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("heading", name="1 result for “lamp”")).to_be_visible()
    page.get_by_role("link", name="Brass lamp").click()
    expect(page.get_by_text("12 left")).to_be_visible()
    page.get_by_label("Quantity").fill("3")
    page.get_by_role("button", name="Reserve", exact=True).click()
    expect(page.get_by_text("3 × Brass lamp reserved for you.")).to_be_visible()
    page.get_by_label("Quantity").fill("2")
    page.get_by_role("button", name="Change").click()
    expect(page.get_by_text("You now hold 2 × Brass lamp.")).to_be_visible()
    page.get_by_role("button", name="Remove").click()
    expect(page.get_by_role("heading", name="Nothing reserved")).to_be_visible()
    product.refresh_from_db()
    assert product.stock == 12


def test_by_keyboard_only(page: Page, make_product: MakeProduct) -> None:
    make_product(name="Lamp")
    page.goto("/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    for _ in range(4):  # in stock, sort, show, the first product
        page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Lamp")).to_be_focused()
    page.keyboard.press("Enter")
    page.get_by_label("Quantity").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("1 × Lamp reserved for you.")).to_be_visible()


def test_a_refused_quantity_keeps_what_was_typed_and_takes_the_reader_there(
    page: Page, make_product: MakeProduct
) -> None:
    reserve(page, make_product(), "two")
    field = page.get_by_label("Quantity")
    expect(field).to_have_value("two")
    expect(field).to_be_focused()
    expect(field).to_have_accessible_description("Quantity: enter a whole number, such as 2.")


def test_the_countdown_survives_a_reload_and_asks_the_server_at_its_end(
    page: Page, make_product: MakeProduct
) -> None:
    product = make_product(name="Lamp")
    reserve(page, product)
    countdown = page.get_by_role("timer")
    expect(countdown).to_have_text(re.compile(r"9:\d\d"))
    page.reload()
    expect(countdown).to_have_text(re.compile(r"9:\d\d"))
    Reservation.objects.update(expires_at=Now() + timedelta(seconds=6))
    page.reload()
    expect(countdown).to_have_text(re.compile(r"0:0\d"))
    expect(page.get_by_role("alert")).to_contain_text("The time of your 1 × Lamp is over")
    expect(countdown).to_have_count(0)
    expect(page.locator("#basket-count")).to_contain_text("0")
    page.get_by_role("link", name="Reserve again").click()
    expect(page.get_by_text("10 left")).to_be_visible()


def test_what_was_said_of_a_hold_goes_when_its_time_is_over(
    page: Page, make_product: MakeProduct, settings: LazySettings
) -> None:
    settings.INVENTORY_HOLD_FOR = timedelta(seconds=6)
    reserve(page, make_product(name="Lamp"))
    expect(page.get_by_text("1 × Lamp reserved for you.")).to_be_visible()
    expect(page.get_by_role("alert")).to_contain_text("The time of your 1 × Lamp is over")
    expect(page.get_by_text("reserved for you")).to_have_count(0)


def test_what_a_product_page_says_one_holds_is_what_one_holds(
    page: Page, make_product: MakeProduct
) -> None:
    product = make_product(name="Lamp")
    reserve(page, product)
    page.goto(f"/products/{product.slug}/")
    expect(page.get_by_text("You hold 1 of these.")).to_be_visible()
    Reservation.objects.update(expires_at=Now())
    expect(page.get_by_text("You hold 1 of these.")).to_have_count(0)


def test_a_product_in_two_parts_is_one_line_with_one_form(
    page: Page, make_product: MakeProduct
) -> None:
    product = make_product(name="Lamp", price="10.00")
    reserve(page, product, "2")
    reserve(page, product, "3")
    expect(page.get_by_text("5 × €10.00 = €50.00")).to_be_visible()
    expect(page.get_by_role("timer")).to_have_count(1)
    expect(page.get_by_text("That is 2 of the 5. The others are yours for longer.")).to_be_visible()
    page.get_by_label("Quantity").fill("1")
    page.get_by_role("button", name="Change").click()
    expect(page.get_by_text("You now hold 1 × Lamp.")).to_be_visible()
    page.get_by_label("Quantity").fill("4")
    page.get_by_role("button", name="Change").click()
    expect(page.get_by_text("4 × €10.00 = €40.00")).to_be_visible()
    page.go_back()  # to a page that is old by now
    page.get_by_role("button", name="Remove").click()
    expect(page.get_by_text("Lamp removed from your basket.")).to_be_visible()
    product.refresh_from_db()
    assert product.stock + sum(hold.quantity for hold in Reservation.objects.held()) == 10


def test_the_stock_on_an_open_page_follows_what_others_do(
    page: Page, make_product: MakeProduct
) -> None:
    product = make_product(1)
    page.goto(f"/products/{product.slug}/")
    expect(page.get_by_text("Last one")).to_be_visible()
    reservations.reserve(product, 1, buyer="somebody else")
    expect(page.get_by_text("All in baskets")).to_be_visible()


def test_two_browsers_after_the_last_unit(new_page: NewPage, make_product: MakeProduct) -> None:
    product = make_product(1, name="Radio")
    first, second = new_page(), new_page()
    for page in (first, second):
        page.goto(f"/products/{product.slug}/")
    for page in (first, second):
        page.get_by_role("button", name="Reserve", exact=True).click()
    expect(first.get_by_text("1 × Radio reserved for you.")).to_be_visible()
    expect(second.get_by_text("All Radio are in baskets at the moment.")).to_be_visible()


def test_without_javascript(new_page: NewPage, make_product: MakeProduct) -> None:
    page = new_page(java_script_enabled=False)
    reserve(page, make_product(name="Lamp"), "2")
    expect(page.get_by_text("2 × Lamp reserved for you.")).to_be_visible()
    expect(page.get_by_text(re.compile(r"Yours for\s+(10:00|9:\d\d)"))).to_be_visible()
    page.get_by_role("button", name="Remove").click()
    expect(page.get_by_role("heading", name="Nothing reserved")).to_be_visible()


LONG = "A lamp with every feature that a lamp can have, in three colours and in four sizes, " * 2


@pytest.mark.parametrize(
    ("width", "text"),
    [
        (320, "100%"),
        (1280, "200%"),
        *(
            pytest.param(*size, marks=pytest.mark.thorough)
            for size in ((1280, "100%"), (640, "100%"), (390, "200%"))
        ),
    ],
)
def test_zoomed_in_the_header_keeps_together_and_nothing_sticks_out(
    new_page: NewPage, make_product: MakeProduct, width: int, text: str
) -> None:
    page = new_page(viewport={"width": width, "height": 500})
    reserve(page, make_product(name=LONG))
    for address in ("/", "/basket/", "/checkout/", "/help/stock/"):
        page.goto(address)
        page.evaluate("size => { document.documentElement.style.fontSize = size }", text)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, address
        header = page.locator(".site-header")
        brand = header.locator(".brand").bounding_box()
        basket = header.get_by_role("link", name="Basket").bounding_box()
        search = header.get_by_role("button", name="Search").bounding_box()
        assert brand
        assert basket
        assert search
        for box in (brand, basket, search):
            assert 0 <= box["x"] <= box["x"] + box["width"] <= width
        if text == "100%":  # brand and basket stand in one row
            assert abs(_middle(brand) - _middle(basket)) < 8


def _middle(box: Any) -> float:
    middle: float = box["y"] + box["height"] / 2
    return middle


@pytest.mark.parametrize("width", [390, pytest.param(1280, marks=pytest.mark.thorough)])
def test_four_digits_can_be_read_in_a_quantity(
    new_page: NewPage, make_product: MakeProduct, width: int
) -> None:
    page = new_page(viewport={"width": width, "height": 800})
    product = make_product()
    page.goto(f"/products/{product.slug}/")
    _expect_to_fit(page, "9999")
    reserve(page, product)
    _expect_to_fit(page, "9999")


def _expect_to_fit(page: Page, text: str) -> None:
    field = page.get_by_label("Quantity")
    field.fill(text)
    assert field.evaluate("field => field.scrollWidth <= field.clientWidth")


def test_a_long_name_takes_three_lines_of_its_card_and_is_there_in_full(
    new_page: NewPage, make_product: MakeProduct
) -> None:
    page = new_page(viewport={"width": 390, "height": 800})
    product = make_product(name=LONG)
    make_product(name="Lamp")
    page.goto("/")
    name = page.get_by_role("link", name=LONG.strip())
    expect(name).to_have_attribute("title", LONG)
    line = page.get_by_role("heading", name="Lamp", exact=True).bounding_box()
    clamped = page.locator("h2").filter(has=name).bounding_box()
    assert line
    assert clamped
    assert clamped["height"] < 3.5 * line["height"]
    name.click()
    expect(page.get_by_role("heading", name=LONG.strip())).to_be_visible()
    expect(page).to_have_url(re.compile(product.slug))


def test_no_page_is_wider_than_a_phone(new_page: NewPage, make_product: MakeProduct) -> None:
    page = new_page(viewport={"width": 320, "height": 700})
    product = make_product(name="Donaudampfschifffahrtsgesellschaftskapitänsmützenständer")
    reserve(page, product, "9")
    for address in ("/", f"/products/{product.slug}/", "/basket/", "/help/stock/", "/nope"):
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth") <= 320, address
