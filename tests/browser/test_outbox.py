"""The e-mails of a demo, in a browser: readable for all, and shut in."""

from __future__ import annotations

from typing import Any, Literal

import html5lib
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from shop.models import OutboxMail
from tests.browser.conftest import NewPage
from tests.browser.test_checkout import choose, expect_standing, go_to_bank
from tests.conftest import MakeProduct
from tests.shop.orders.steps import delete_jobs, do_jobs

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


@pytest.mark.parametrize(
    ("scheme", "width"),
    [("dark", 1280), pytest.param("light", 390, marks=pytest.mark.thorough)],
)
def test_from_the_order_to_its_e_mail_and_back(
    new_page: NewPage,
    make_product: MakeProduct,
    settings: Any,
    scheme: Literal["light", "dark"],
    width: int,
) -> None:
    settings.DEMO = True
    settings.EMAIL_BACKEND = "shop.notifications.outbox.EmailBackend"
    page = new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
    go_to_bank(page, make_product(3))
    choose(page, "Approve")
    expect_standing(page, "Paid. Thank you!")
    order_page = page.url
    do_jobs("send_order_paid")
    number = OutboxMail.objects.get().order.number  # type: ignore[union-attr]

    page.get_by_role("link", name="e-mails are shown here").click()
    look(page)
    page.get_by_role("link", name=f"Your order {number} is paid").click()
    look(page)
    frame = page.frame_locator("iframe")
    expect(frame.get_by_role("heading", name=f"Order {number}")).to_be_visible()
    frame.get_by_role("link", name="See your order").click()
    page.wait_for_url(order_page)
    delete_jobs()


def look(page: Page) -> None:
    """The page is valid, fits, and axe finds nothing."""
    html5lib.HTMLParser(strict=True).parse(page.content())
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    found = Axe().run(page, options={"iframes": False}).response["violations"]
    assert [each["id"] for each in found] == []
