"""Every page is valid HTML, and shuts nobody out, in light and dark."""

from __future__ import annotations

from typing import Literal

import html5lib
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from inventory import reservations
from inventory.models import Product
from tests.browser.conftest import NewPage
from tests.browser.test_storefront import reserve
from tests.conftest import MakeProduct

pytestmark = pytest.mark.django_db(transaction=True)

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
@pytest.mark.parametrize(("scheme", "width"), [("light", 390), ("dark", 1280)])
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


def _violations(page: Page) -> list[str]:
    results = Axe().run(page).response
    return [
        f"{violation['id']}: {node['html']}"
        for violation in results["violations"]
        for node in violation["nodes"]
    ]


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
