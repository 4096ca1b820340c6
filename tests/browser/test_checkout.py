"""From the shelf to the paid order, as a buyer's browser sees it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db.models.functions import Now
from playwright.sync_api import Page, expect

from inventory.models import Product, Reservation
from shop import payments
from shop.models import DemoBankCharge, Order, Payment
from shop.payments import ProviderUnavailable, demo
from tests.browser.conftest import NewPage
from tests.browser.test_storefront import reserve
from tests.conftest import MakeProduct
from tests.shop.orders.steps import assert_money_and_goods_agree, delete_jobs

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


@pytest.fixture(autouse=True)
def money_and_goods_agree_after_each_test(transactional_db: None) -> Iterator[None]:
    yield
    assert_money_and_goods_agree()
    delete_jobs()


def fill_in(page: Page) -> None:
    page.get_by_label("Name").fill("Ada Lovelace")
    page.get_by_label("E-mail").fill("ada@example.org")
    page.get_by_label("Street address").fill("12 St James's Square")
    page.get_by_label("Postcode").fill("SW1Y 4JH")
    page.get_by_label("Town").fill("London")
    page.get_by_label("Country").select_option("United Kingdom")


def go_to_bank(page: Page, product: Product, units: str = "1") -> None:
    """All the way, from the product's page."""
    reserve(page, product, units)
    page.get_by_role("link", name="Check out").click()
    fill_in(page)
    page.get_by_role("button", name="Order and pay").click()
    expect(page.get_by_text("No real money")).to_be_visible()


def choose(page: Page, label: str) -> None:
    page.get_by_role("button", name=label, exact=True).click()


def expect_standing(page: Page, words: str) -> None:
    expect(page.get_by_role("heading", name=words)).to_be_visible()


# Each of the bank's choices


def test_browse_reserve_check_out_and_pay(page: Page, make_product: MakeProduct) -> None:
    product = make_product(12, name="Brass lamp")
    page.goto("/")
    page.get_by_role("link", name="Brass lamp").click()
    page.get_by_label("Quantity").fill("2")
    page.get_by_role("button", name="Reserve", exact=True).click()
    page.get_by_role("link", name="Check out").click()
    fill_in(page)
    page.get_by_role("button", name="Order and pay €44.70").click()
    expect(page.get_by_role("heading", name="€44.70")).to_be_visible()
    choose(page, "Approve")
    expect_standing(page, "Paid. Thank you!")
    expect(page.get_by_text("2 × Brass lamp")).to_be_visible()
    expect(page.get_by_role("button", name="Pay")).to_have_count(0)
    product.refresh_from_db()
    assert (product.stock, Order.objects.get().state) == (10, Order.State.PAID)


def test_declined_and_paid_at_the_second_try(page: Page, make_product: MakeProduct) -> None:
    go_to_bank(page, make_product())
    choose(page, "Decline")
    expect_standing(page, "The payment did not go through")
    page.get_by_role("button", name="again").click()
    choose(page, "Approve")
    expect_standing(page, "Paid. Thank you!")
    assert DemoBankCharge.objects.filter(state="APPROVED").count() == 1


def test_the_answer_is_lost_and_found(page: Page, make_product: MakeProduct) -> None:
    go_to_bank(page, make_product())
    choose(page, "Approve, but the answer is lost")
    expect(page.get_by_role("heading", name="The connection broke down")).to_be_visible()
    assert Order.objects.get().state == Order.State.PENDING
    page.get_by_role("link", name="Go back to the shop").click()
    expect_standing(page, "Paid. Thank you!")


def test_approved_late_the_page_says_so_by_itself(
    page: Page, make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "LATE", timedelta(seconds=6))
    go_to_bank(page, make_product())
    choose(page, "Approve in a minute")
    expect_standing(page, "Waiting for the payment")
    page.get_by_role("link", name="Cancel this order").focus()
    expect_standing(page, "Paid. Thank you!")
    assert Payment.objects.get().state == Payment.State.PAID


def test_what_was_said_of_a_payment_goes_when_the_page_has_news(
    page: Page, make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(payment: Payment) -> None:
        raise ProviderUnavailable("No network.")

    go_to_bank(page, make_product())
    page.get_by_role("link", name="Back to the shop without paying").click()
    with monkeypatch.context() as patched:
        patched.setattr(payments, "start", unreachable)
        page.get_by_role("button", name="Go on with the payment").click()
        expect(page.get_by_text("Your order is kept for you")).to_be_visible()
    demo.choose(Payment.objects.get().reference, demo.Choice.APPROVE)
    expect_standing(page, "Paid. Thank you!")
    expect(page.get_by_text("Your order is kept for you")).to_have_count(0)


# Time


def test_the_countdown_of_an_order_ends_and_the_page_says_so_by_itself(
    page: Page, make_product: MakeProduct
) -> None:
    go_to_bank(page, make_product())
    choose(page, "Decline")
    expect(page.get_by_role("timer")).to_have_text(re.compile(r"1[45]:\d\d"))
    Reservation.objects.update(expires_at=Now() + timedelta(seconds=6))
    page.reload()
    expect(page.get_by_role("timer")).to_have_text(re.compile(r"0:0\d"))
    expect_standing(page, "Your time is over")
    expect(page.get_by_role("timer")).to_have_count(0)


def test_at_the_end_of_the_countdown_the_checkout_says_so_and_keeps_what_was_typed(
    page: Page, make_product: MakeProduct
) -> None:
    product = make_product(name="Lamp")
    reserve(page, product)
    Reservation.objects.update(expires_at=Now() + timedelta(seconds=8))
    page.get_by_role("link", name="Check out").click()
    fill_in(page)
    expect(page.get_by_role("alert")).to_contain_text("The time of your 1 × Lamp is over")
    expect(page.get_by_role("timer")).to_have_count(0)
    expect(page.get_by_role("button", name="Order and pay")).to_have_count(0)
    expect(page.get_by_label("Town")).to_have_value("London")
    page.get_by_role("button", name="Reserve again").click()
    expect(page.get_by_text("1 × Lamp reserved for you.")).to_be_visible()
    expect(page.get_by_label("Street address")).to_have_value("12 St James's Square")
    expect(page.get_by_label("Country")).to_have_value("GB")
    page.get_by_role("button", name="Order and pay").click()
    choose(page, "Approve")
    expect_standing(page, "Paid. Thank you!")


def test_an_answer_that_says_nothing_new_does_not_disturb_the_reader(
    page: Page, make_product: MakeProduct
) -> None:
    go_to_bank(page, make_product())
    page.get_by_role("link", name="Back to the shop without paying").click()
    page.get_by_role("button", name="Go on with the payment").focus()
    with page.expect_response(lambda response: "seen=" in response.url) as asked:
        pass
    assert asked.value.status == 204
    expect(page.get_by_role("button", name="Go on with the payment")).to_be_focused()


def test_two_browsers_after_the_last_unit_and_the_slower_one_gets_the_money_back(
    new_page: NewPage, make_product: MakeProduct
) -> None:
    product = make_product(1, name="Radio")
    slow, quick = new_page(), new_page()
    go_to_bank(slow, product)
    quick.goto(f"/products/{product.slug}/")
    expect(quick.get_by_text("All in baskets")).to_be_visible()
    Reservation.objects.update(expires_at=Now())
    go_to_bank(quick, product)
    choose(quick, "Approve")
    expect_standing(quick, "Paid. Thank you!")
    choose(slow, "Approve")
    expect_standing(slow, "Paid too late")
    expect(slow.get_by_text("We owe you the money that you see below")).to_be_visible()
    expect(slow.get_by_role("button", name="pay")).to_have_count(0)


# Once only


def test_a_double_click_and_the_back_button_make_one_order(
    page: Page, make_product: MakeProduct
) -> None:
    reserve(page, make_product())
    page.get_by_role("link", name="Check out").click()
    fill_in(page)
    page.get_by_role("button", name="Order and pay").dblclick()
    choose(page, "Approve")
    expect_standing(page, "Paid. Thank you!")
    page.go_back()
    page.go_back()
    expect(page).to_have_url(re.compile("/checkout/"))
    assert (Order.objects.count(), DemoBankCharge.objects.count()) == (1, 1)


def test_back_from_a_page_that_refuses_the_form_shows_what_was_typed(
    page: Page, make_product: MakeProduct
) -> None:
    reserve(page, make_product())
    page.get_by_role("link", name="Check out").click()
    fill_in(page)
    page.context.clear_cookies(name="csrftoken")
    page.get_by_role("button", name="Order and pay").click()
    expect(page.get_by_role("heading", name="Please send that once more")).to_be_visible()
    page.go_back()
    expect(page.get_by_label("Street address")).to_have_value("12 St James's Square")
    expect(page.get_by_label("Country")).to_have_value("GB")
    page.get_by_role("button", name="Order and pay").click()
    choose(page, "Approve")
    expect_standing(page, "Paid. Thank you!")


def test_who_left_the_bank_is_led_back_from_the_basket_or_cancels(
    page: Page, make_product: MakeProduct
) -> None:
    product = make_product(1)
    go_to_bank(page, product)
    page.goto("/basket/")
    page.get_by_role("link", name="Go on with it").click()
    page.get_by_role("link", name="Cancel this order").click()
    page.get_by_role("button", name="Yes, cancel it").click()
    expect_standing(page, "Cancelled")
    page.goto(f"/products/{product.slug}/")
    expect(page.get_by_text("Last one")).to_be_visible()


# For everybody


def test_what_is_wrong_is_told_beside_the_field_and_the_reader_taken_there(
    page: Page, make_product: MakeProduct
) -> None:
    reserve(page, make_product())
    page.get_by_role("link", name="Check out").click()
    page.get_by_label("Name").fill("Ada")
    page.get_by_label("E-mail").fill("ada")
    page.get_by_role("button", name="Order and pay").click()
    field = page.get_by_label("E-mail")
    expect(field).to_be_focused()
    expect(field).to_have_accessible_description(re.compile("such as ada@example.org"))
    expect(field).to_have_value("ada")
    expect(page.get_by_label("Name")).to_have_value("Ada")


def test_without_javascript(new_page: NewPage, make_product: MakeProduct) -> None:
    page = new_page(java_script_enabled=False)
    go_to_bank(page, make_product(), "2")
    choose(page, "Decline")
    expect_standing(page, "The payment did not go through")
    expect(page.get_by_text(re.compile(r"Kept for you for\s+1[45]:\d\d"))).to_be_visible()
    page.get_by_role("button", name="again").click()
    page.get_by_role("link", name="Back to the shop without paying").click()
    page.get_by_role("link", name="Look again").click()
    expect_standing(page, "Waiting for the payment")
    page.get_by_role("button", name="Go on with the payment").click()
    choose(page, "Approve")
    expect_standing(page, "Paid. Thank you!")
    page.get_by_role("link", name="Cancel this order").click()
    page.get_by_role("button", name="Yes, cancel it").click()
    expect_standing(page, "Cancelled")


def test_by_keyboard_only(page: Page, make_product: MakeProduct) -> None:
    make_product(name="Lamp")
    page.goto("/")
    tab_to(page, "link", "Lamp")
    page.keyboard.press("Enter")
    tab_to(page, "button", "Reserve")
    page.keyboard.press("Enter")
    tab_to(page, "link", "Check out")
    page.keyboard.press("Enter")
    typed = {
        "Name": "Ada",
        "E-mail": "ada@example.org",
        "Street address": "1 Main St",
        "Postcode": "10115",
        "Town": "Springfield",
    }
    for label, text in typed.items():
        tab_to(page, "textbox", label)
        page.keyboard.type(text)
    tab_to(page, "combobox", "Country")
    page.keyboard.type("Austria")
    tab_to(page, "button", re.compile("Order and pay"))
    page.keyboard.press("Space")
    tab_to(page, "button", "Approve")
    page.keyboard.press("Enter")
    expect_standing(page, "Paid. Thank you!")
    tab_to(page, "link", "Cancel this order")
    page.keyboard.press("Enter")
    tab_to(page, "button", "Yes, cancel it")
    page.keyboard.press("Enter")
    expect_standing(page, "Cancelled")


def tab_to(page: Page, role: str, name: str | re.Pattern[str]) -> None:
    """Press the Tab key until that is reached."""
    wanted = page.locator("*:focus").and_(
        page.get_by_role(role, name=name, exact=True)  # type: ignore[arg-type]
    )
    page.get_by_role(role, name=name, exact=True).wait_for()  # type: ignore[arg-type]
    for _ in range(30):
        page.keyboard.press("Tab")
        if wanted.count():
            return
    raise AssertionError(f"The Tab key doesn't reach the {role} {name}.")


def test_no_page_is_wider_than_a_phone(new_page: NewPage, make_product: MakeProduct) -> None:
    page = new_page(viewport={"width": 320, "height": 700})
    name = "Donaudampfschifffahrtsgesellschaftskapitänsmützenständer"

    def fits(*addresses: str) -> None:
        for address in addresses:
            page.goto(address)
            assert page.evaluate("document.documentElement.scrollWidth") <= 320, address

    product = make_product(price="99999999.99", name=name)
    reserve(page, product, "9")
    fits("/checkout/")
    fill_in(page)
    page.get_by_role("button", name="Order and pay").click()
    bank = page.url
    order = Order.objects.get()
    fits(bank, "/basket/", "/orders/", f"/products/{product.slug}/")
    fits(f"/orders/{order.token}/", f"/orders/{order.token}/cancellation/")
