"""Every page is valid HTML, and shuts nobody out, in light and dark."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import html5lib
import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Page, Response, expect

from inventory import reservations
from inventory.models import Product, Reservation
from shop import orders, payments
from shop.models import Order
from shop.orders import status_page
from tests.browser.conftest import NewPage
from tests.browser.test_checkout import choose, fill_in, go_to_bank
from tests.browser.test_storefront import reserve
from tests.concurrency import lapse
from tests.conftest import MakeProduct
from tests.shop.orders.steps import APPROVE, at_bank, delete_jobs, place

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

ADDRESSES = [
    "/",
    "/?q=nothing",
    "/?q=cup&in_stock=on&page=2",
    "/products/plenty/",
    "/products/few/",
    "/products/held/",
    "/products/gone/",
    "/basket/",
    "/help/stock/",
    "/nope",
]


@pytest.fixture
def shop_with_all_kinds(make_product: MakeProduct) -> None:
    """A product in each state of stock, and enough of them for two pages."""
    make_product(12, name="Plenty", slug="plenty", description="Text.\n\nMore <text>.")
    make_product(2, name="Few", slug="few", max_per_buyer=2)
    make_product(0, name="Gone", slug="gone", strategy="naive")
    reservations.reserve(make_product(1, name="Held", slug="held"), 1, buyer="somebody")
    for number in range(14):
        make_product(name=f"Cup {number}")


@pytest.mark.usefixtures("shop_with_all_kinds")
@pytest.mark.parametrize(
    ("scheme", "width"),
    [("dark", 1280), pytest.param("light", 390, marks=pytest.mark.thorough)],
)
def test_axe_finds_nothing(new_page: NewPage, scheme: Literal["light", "dark"], width: int) -> None:
    page = new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
    reserve(page, Product.objects.get(slug="plenty"), "nonsense")
    found = {"refused form": _violations(page)}
    reserve(page, Product.objects.get(slug="plenty"), "2")
    found["message"] = _violations(page)
    for address in ADDRESSES:
        page.goto(address)
        found[address] = _violations(page)
    assert {address: found[address] for address in found if found[address]} == {}


@pytest.mark.usefixtures("shop_with_all_kinds")
@pytest.mark.parametrize(
    ("scheme", "width"),
    [("light", 390), pytest.param("dark", 1280, marks=pytest.mark.thorough)],
)
def test_from_checkout_to_every_end_of_an_order(
    new_page: NewPage, scheme: Literal["light", "dark"], width: int
) -> None:
    """Valid HTML, and nothing that axe finds, on each page on the way."""
    page = new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
    found: dict[str, list[str]] = {}
    pages: list[Response] = []
    page.on("response", lambda response: pages.append(response) if _is_page(response) else None)

    def look(name: str) -> None:
        found[name] = _violations(page)
        _parse(pages[-1].text())

    walk(page, look)
    assert {name: found[name] for name in found if found[name]} == {}
    delete_jobs()


def _is_page(response: Response) -> bool:
    return response.request.is_navigation_request() and response.status not in (302, 303)


def walk(page: Page, look: Callable[[str], None]) -> None:
    """Go to every page from the checkout on, and to an order's in every situation."""
    plenty = Product.objects.get(slug="plenty")
    for address in ("/checkout/", "/orders/"):
        page.goto(address)
        look(f"{address} with nothing")
    reserve(page, plenty)
    page.goto("/checkout/")
    look("checkout")
    page.get_by_label("E-mail").fill("<ada>")
    page.get_by_role("button", name="Order and pay").click()
    look("checkout with errors")
    fill_in(page)
    reservations.expire_lapsed(lapse(Reservation.objects.get(product=plenty)).product_id)
    page.get_by_role("button", name="Order and pay").click()
    look("checkout after its time")
    go_to_bank(page, plenty)
    bank = page.url
    look("bank")
    order = Order.objects.get()
    address = f"/orders/{order.token}/"
    for name in (
        "/basket/",
        "/orders/",
        "/products/plenty/",
        f"{address}contact/",
        f"{address}cancellation/",
        address,
    ):
        page.goto(name)
        look(f"{name} while an order waits")
    page.goto(bank)
    choose(page, "Approve, but the answer is lost")
    look("bank, answer lost")
    page.goto(bank)
    look("bank, decided")
    for situation in status_page.Situation:
        show(page, order, situation)
        look(situation)


def show(page: Page, order: Order, situation: status_page.Situation) -> None:
    """Open the order's page with words for that situation, whatever the order is in."""
    stands = replace(status_page.look_up(order.token), situation=situation, seconds_left=90)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(status_page, "look_up", lambda token: stands)
        page.goto(f"/orders/{order.token}/")


def _violations(page: Page) -> list[str]:
    results = Axe().run(page).response
    return [
        f"{violation['id']}: {node['html']}"
        for violation in results["violations"]
        for node in violation["nodes"]
    ]


@pytest.mark.parametrize(
    ("scheme", "width"),
    [("light", 320), pytest.param("dark", 1280, marks=pytest.mark.thorough)],
)
def test_the_demo_bank_after_a_payment(
    new_page: NewPage,
    make_product: MakeProduct,
    scheme: Literal["light", "dark"],
    width: int,
) -> None:
    """The customer disputes; the bank's staff give back, let refunds fail, decide and decline."""
    page = new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
    found: dict[str, list[str]] = {}

    def look(name: str) -> None:
        found[name] = _violations(page)
        _parse(page.content())
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name

    order = place((make_product(1), 1))
    charge = at_bank(order, APPROVE)
    orders.settle(order.pk)
    staff = Client()
    staff.force_login(User.objects.create_superuser("staff"))
    session = staff.cookies["sessionid"].value
    page.context.add_cookies(
        [{"name": "sessionid", "value": session, "domain": "localhost", "path": "/"}]
    )
    page.goto(payments.statement(order.payments.get()).page.removeprefix("http://testserver"))
    look("a charge")
    choose(page, "Give back")
    expect(page.get_by_text("This field is required.")).to_be_visible()
    look("no amount")
    page.get_by_label("Amount").fill("2.50")
    choose(page, "Give back")
    expect(page.get_by_role("status")).to_have_text("€2.50 were given back.")
    look("a refund")
    choose(page, "Let it fail: the refund of €2.50")
    look("a refund that failed")
    page.goto(reverse("demo-bank", args=[charge.reference]))
    look("the customer’s page")
    choose(page, "Dispute this payment")
    expect(page.get_by_text("You have disputed this payment.")).to_be_visible()
    look("the customer’s page of a disputed payment")
    page.goto(reverse("demo-bank-charge", args=[charge.pk]))
    look("a dispute")
    choose(page, "Decide for the customer")
    choose(page, "Decline all further refunds")
    expect(page.get_by_role("status")).to_have_text("The bank declines all further refunds.")
    look("the end")
    assert {name: found[name] for name in found if found[name]} == {}
    delete_jobs()


@pytest.mark.usefixtures("shop_with_all_kinds")
def test_html_is_valid(new_page: NewPage) -> None:
    page = new_page(java_script_enabled=False)
    reserve(page, Product.objects.get(slug="plenty"), "<&\"'")
    _parse(page.content())
    reserve(page, Product.objects.get(slug="plenty"), "2")
    for address in ADDRESSES:
        response = page.request.get(address)
        _parse(response.text())


def _parse(html: str) -> None:
    html5lib.HTMLParser(strict=True).parse(html)
    ids = [part.split('"', 1)[0] for part in html.split(' id="')[1:]]
    assert len(ids) == len(set(ids))
