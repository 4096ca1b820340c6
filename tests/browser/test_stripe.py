"""From the checkout to Stripe's page and back, as a buyer's browser sees it."""

from __future__ import annotations

from typing import Any, Literal

import html5lib
import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import LazySettings
from playwright.sync_api import Page, expect

from shop.models import Order, Payment, PaymentEvent
from tests.browser.conftest import NewPage
from tests.browser.test_checkout import (
    expect_standing,
    fill_in,
    money_and_goods_agree_after_each_test,
)
from tests.browser.test_storefront import reserve
from tests.conftest import MakeProduct
from tests.stripe_standin import StripeStandin

__all__ = ["money_and_goods_agree_after_each_test"]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


@pytest.fixture(autouse=True)
def stripe_is_the_provider(stripe_standin: StripeStandin, settings: LazySettings) -> None:
    settings.PAYMENT_PROVIDER = "stripe"
    settings.STRIPE_SECRET_KEY = stripe_standin.secret_key
    settings.STRIPE_WEBHOOK_SECRET = stripe_standin.webhook_secret
    settings.STRIPE_API_BASE = stripe_standin.url


def order(page: Page, make_product: MakeProduct) -> None:
    """Press the button that leads to Stripe."""
    reserve(page, make_product(5), "2")
    page.get_by_role("link", name="Check out").click()
    fill_in(page)
    page.get_by_role("button", name="Order and pay").click()


def expect_stripe(page: Page, standin: StripeStandin) -> None:
    """The payment's page at Stripe, with the order's total."""
    expect(page).to_have_url(standin.page_of(Payment.objects.latest("started_at").reference))
    total = Order.objects.get().total
    expect(page.get_by_role("button", name=f"Pay €{total}", exact=True)).to_be_visible()


def press(page: Page, label: str) -> None:
    page.get_by_role("button", name=label).click()


def kept(standin: StripeStandin) -> list[int]:
    """The cents that Stripe has for us, for each payment."""
    return [balance.kept for balance in standin.books.balances()]


def cents(order: Order) -> int:
    return int(order.total * 100)


@pytest.mark.parametrize(
    ("scheme", "width"),
    [("dark", 1280), pytest.param("light", 390, marks=pytest.mark.thorough)],
)
def test_pay_at_stripe_and_come_back(
    new_page: NewPage,
    make_product: MakeProduct,
    stripe_standin: StripeStandin,
    scheme: Literal["light", "dark"],
    width: int,
) -> None:
    page = new_page(color_scheme=scheme, viewport={"width": width, "height": 800})
    order(page, make_product)
    expect_stripe(page, stripe_standin)
    expect(page.get_by_role("heading", name=Order.objects.get().number)).to_be_visible()
    expect_a_page_for_everybody(page)

    press(page, "Pay €")

    expect_standing(page, "Paid. Thank you!")
    paid = Order.objects.get()
    assert (paid.state, kept(stripe_standin)) == (Order.State.PAID, [cents(paid)])


def expect_a_page_for_everybody(page: Page) -> None:
    """Valid HTML, nothing that axe finds, and no scrolling sideways."""
    html5lib.HTMLParser(strict=True).parse(page.request.get(page.url).text())
    assert Axe().run(page).response["violations"] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_declined_card_and_then_another(
    page: Page, make_product: MakeProduct, stripe_standin: StripeStandin
) -> None:
    order(page, make_product)

    press(page, "Pay with a card that is declined")
    expect(page.get_by_text("Your card was declined")).to_be_visible()
    press(page, "Pay €")

    expect_standing(page, "Paid. Thank you!")
    assert kept(stripe_standin) == [cents(Order.objects.get())]


def test_back_to_the_shop_without_paying_and_on_again(
    page: Page, make_product: MakeProduct, stripe_standin: StripeStandin
) -> None:
    order(page, make_product)
    page.get_by_role("link", name="Back to the shop").click()
    press(page, "Go on with the payment")

    expect_stripe(page, stripe_standin)
    assert len(stripe_standin.sessions.all()) == 1
    press(page, "Pay €")

    expect_standing(page, "Paid. Thank you!")
    assert kept(stripe_standin) == [cents(Order.objects.get())]


def test_stripe_is_down_and_a_second_click_pays_once(
    page: Page, make_product: MakeProduct, stripe_standin: StripeStandin
) -> None:
    fault = stripe_standin.faults.add("POST /v1/checkout/sessions", "answer_lost", times=None)
    order(page, make_product)
    expect(page.get_by_text("Your order is kept for you")).to_be_visible()
    stripe_standin.faults.remove(fault)
    press(page, "Pay €")

    expect_stripe(page, stripe_standin)
    press(page, "Pay €")

    expect_standing(page, "Paid. Thank you!")
    assert len(stripe_standin.sessions.all()) == 1
    assert kept(stripe_standin) == [cents(Order.objects.get())]


def test_a_page_at_stripe_that_is_over_leads_back(
    page: Page, make_product: MakeProduct, stripe_standin: StripeStandin
) -> None:
    order(page, make_product)
    expect_stripe(page, stripe_standin)
    stripe_standin.sessions.expire(Payment.objects.get().reference)

    press(page, "Pay €")
    expect(page.get_by_role("heading", name="This payment page has expired")).to_be_visible()
    page.get_by_role("link", name="Back to the shop").click()

    expect_standing(page, "The payment did not go through")
    assert kept(stripe_standin) == []


def test_the_page_that_waits_says_by_itself_that_the_money_has_come(
    page: Page, make_product: MakeProduct, stripe_standin: StripeStandin, live_server: Any
) -> None:
    order(page, make_product)
    expect_stripe(page, stripe_standin)
    page.get_by_role("link", name="Back to the shop").click()
    expect_standing(page, "Waiting for the payment")

    stripe_standin.sessions.pay(Payment.objects.get().reference)
    stripe_standin.webhooks.set_url(f"{live_server.url}/payments/stripe/events/")
    assert all(delivery.is_accepted for delivery in stripe_standin.webhooks.deliver())

    expect_standing(page, "Paid. Thank you!")
    assert PaymentEvent.objects.filter(kind="checkout.session.completed").exists()
