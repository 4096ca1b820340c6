"""The admin as staff use it: they see, acknowledge and repair the damage of a flash sale."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.auth.models import User
from django.test import Client
from playwright.sync_api import Page, expect

from inventory import reservations
from inventory.experiments.flash_sale.sale import Parameters, run
from inventory.experiments.models import FlashSale
from inventory.experiments.tasks import run_flash_sale
from inventory.models import Product, StockAlert
from shop import orders, shop_alerts, tasks
from shop.models import Order, ShopAlert
from tests.browser.conftest import NewPage
from tests.conftest import MakeProduct
from tests.shop.orders.steps import APPROVE, at_bank, delete_jobs, now, place, stock_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

OF_THE_FRAME = {"landmark-one-main", "region", "landmark-unique"}

LogIn = Callable[..., Page]


@pytest.fixture
def log_in(new_page: NewPage) -> LogIn:
    """A function that opens the admin's first page for a member of staff."""

    def open_admin(**options: object) -> Page:
        client = Client()
        client.force_login(User.objects.create_superuser("ada"))
        page = new_page(**options)
        cookie = client.cookies["sessionid"]
        page.context.add_cookies(
            [{"name": "sessionid", "value": cookie.value, "domain": "localhost", "path": "/"}]
        )
        page.goto("/admin/")
        return page

    return open_admin


def go(page: Page, where: str) -> None:
    """Follow a link of the navigation on the left. Its text begins with the name of an icon."""
    page.locator("#nav-sidebar").get_by_role("link", name=re.compile(rf"\b{where}$")).click()


def press(page: Page, button: str) -> None:
    page.get_by_role("button", name=button, exact=True).click()


@pytest.mark.breaks_law
def test_a_naive_sale_is_seen_acknowledged_and_repaired(log_in: LogIn) -> None:
    page = log_in()
    go(page, "Flash sales")
    page.get_by_role("link", name="Run a flash sale").click()
    for box in page.get_by_role("checkbox").all():
        box.uncheck()
    page.get_by_label("Naive read and save").check()
    press(page, "Run")
    expect(page.get_by_role("status")).to_contain_text("0 of 1 turns done")
    run_flash_sale(flash_sale_id=FlashSale.objects.get().pk)
    # The page reloads by itself.
    expect(page.get_by_role("row").filter(has_text="naive")).to_contain_text(
        "sold 15 of 10: 5 buyers will be disappointed"
    )
    # Fifteen read 10 and write 9, unless a slow machine lets one come late and write 8.
    exhibit = Product.objects.get()
    drift = exhibit.stock + 5

    expect(page.get_by_role("complementary", name="Stock alerts")).to_have_count(0)
    expect(page.locator("body")).to_contain_text("2 stock alerts of its exhibits are open")
    page.get_by_role("link", name="See them").click()
    oversold = page.get_by_role("link", name="oversold", exact=True)
    figures = f"received 10, available {exhibit.stock}, held 0, sold 15"
    words = f"{figures}: drift +{drift}, oversold 5"
    expect(page.get_by_role("row").filter(has=oversold)).to_contain_text(words)
    oversold.click()
    page.get_by_role("link", name="Acknowledge").click()
    press(page, "Acknowledge")
    expect(page.locator("body")).to_contain_text("You have acknowledged oversold of Flash sale")

    page.get_by_role("link", name=exhibit.name, exact=True).click()
    page.get_by_role("link", name="Repair").click()
    press(page, "Repair")
    expect(page.locator("body")).to_contain_text(f"stock {exhibit.stock} → -5")
    assert open_kinds() == {"OVERSOLD", "NEGATIVE_STOCK"}

    page.get_by_role("link", name="Receive").click()
    page.get_by_label("Units received").fill("5")
    press(page, "Receive")
    expect(page.locator("body")).to_contain_text("stock -5 → 0")
    assert open_kinds() == set()
    delete_jobs()


def open_kinds() -> set[str]:
    return set(StockAlert.objects.open().values_list("kind", flat=True))


def test_receiving_and_removing(log_in: LogIn, make_product: MakeProduct) -> None:
    lamp = make_product(10, name="Lamp", sku="LAMP")
    page = log_in()
    go(page, "Products")
    page.get_by_role("link", name="Lamp").click()
    page.get_by_role("link", name="Receive").click()
    page.get_by_label("Units received").fill("5")
    page.get_by_label("Note").fill("Note 17")
    press(page, "Receive")
    expect(page.locator("body")).to_contain_text("LAMP: stock 10 → 15 (delivery).")
    page.get_by_role("link", name="Remove").click()
    page.get_by_label("Units removed").fill("16")
    press(page, "Remove")
    expect(page.locator("body")).to_contain_text("Only 15 of LAMP available, 16 asked for.")
    page.get_by_label("Units removed").fill("3")
    page.get_by_label("Reason").select_option("damaged or lost")
    press(page, "Remove")
    expect(page.locator("body")).to_contain_text("LAMP: stock 15 → 12 (damaged or lost).")
    assert stock_of(lamp) == 12
    page.get_by_role("link", name="History").last.click()
    expect(page.get_by_role("row").filter(has_text="Note 17")).to_contain_text("10 → 15")


def test_a_refund_in_part(log_in: LogIn, make_product: MakeProduct) -> None:
    lamp = make_product(10, name="Lamp", price=Decimal("10.00"))
    order = place((lamp, 3))
    at_bank(order, APPROVE)
    orders.settle(order.pk)
    page = log_in()
    go(page, "Orders")
    page.get_by_role("link", name=order.number).click()
    page.get_by_role("link", name="Refund units").click()
    page.get_by_label("Lamp").fill("1")
    page.get_by_label("Put the units back on sale").check()
    press(page, "Refund")
    expect(page.locator("body")).to_contain_text("€10.00 of order")
    assert stock_of(lamp) == 8
    assert now(order).state == Order.State.PAID
    delete_jobs()


def test_adding_a_mug(log_in: LogIn) -> None:
    page = log_in()
    go(page, "Products")
    page.goto("/admin/inventory/product/add/")
    page.get_by_label("Name").press_sequentially("Enamel mug")
    page.get_by_label("SKU").fill("MUG-1")
    page.get_by_label("Price").fill("14.50")
    page.get_by_label("Units in stock").fill("12")
    press(page, "Save")
    expect(page.locator("body")).to_contain_text("MUG-1: stock 0 → 12 (delivery).")
    mug = Product.objects.get()
    assert (mug.slug, mug.stock) == ("enamel-mug", 12)


def test_an_unsafe_strategy_is_asked_for_twice(log_in: LogIn, make_product: MakeProduct) -> None:
    lamp = make_product(10, name="Lamp")
    page = log_in()
    page.goto(f"/admin/inventory/product/{lamp.pk}/change/")
    expect(page.get_by_label("Strategy")).to_be_hidden()
    page.get_by_text("Advanced", exact=True).click()
    page.get_by_label("Strategy").select_option("Naive read and save")
    press(page, "Save")
    expect(page.locator("body")).to_contain_text("To choose it, tick “Use it all the same”")
    page.get_by_label("Use it all the same").check()
    press(page, "Save")
    expect(page.locator("body")).to_contain_text("was changed successfully")
    lamp.refresh_from_db()
    assert lamp.strategy == "naive"


@pytest.mark.parametrize("width", [390, pytest.param(1280, marks=pytest.mark.thorough)])
def test_alerts_leave_a_phone_room_for_the_page(
    log_in: LogIn, make_product: MakeProduct, width: int
) -> None:
    """On a phone each is one line; a wide page has room for all of its words."""
    order = place((make_product(9), 1))
    for number in range(5):
        trouble = shop_alerts.Trouble(
            ShopAlert.Kind.START_DECLINED, f"order {number}", "The buyer can't pay. " * 15, order.pk
        )
        shop_alerts.raise_alert(trouble)
    page = log_in(viewport={"width": width, "height": 844})
    page.goto(f"/admin/shop/order/{order.pk}/change/")
    banner = page.get_by_role("complementary", name="Alerts of orders and jobs")
    heights = [box["height"] for each in banner.locator("li").all() if (box := each.bounding_box())]
    assert [height < 30 for height in heights] == [width == 390] * 3
    whole = banner.bounding_box()
    assert whole is not None
    assert (whole["height"] < 150) == (width == 390)
    expect(banner.get_by_role("link", name="and 2 more")).to_be_visible()
    ShopAlert.objects.all().delete()


def test_printing_an_order(log_in: LogIn, make_product: MakeProduct) -> None:
    """Printed pages have neither menu nor alert, and a slip has no buttons."""
    page = log_in()
    lamp = make_product(3, name="Lamp", low_stock_threshold=5)
    order = place((lamp, 1))
    at_bank(order, APPROVE)
    orders.settle(order.pk)
    tasks.check_law(0)
    page.goto(f"/admin/shop/order/{order.pk}/change/")
    banner = page.get_by_role("complementary", name="Stock alerts")
    menu, steps = page.locator("#nav-sidebar"), page.get_by_role("link", name="Refund all")
    for part in (banner, menu, steps):
        expect(part).to_be_visible()
    page.emulate_media(media="print")
    for part in (banner, menu, steps):
        expect(part).to_be_hidden()
    expect(page.get_by_text("1 Main Street")).to_be_visible()
    page.emulate_media(media="screen")
    page.get_by_role("link", name="Packing slip").click()
    page.evaluate("window.print = () => { document.title = 'printed' }")
    press(page, "Print")
    expect(page).to_have_title("printed")
    page.emulate_media(media="print")
    expect(page.get_by_role("button", name="Print")).to_be_hidden()
    expect(page.get_by_text(order.number, exact=True).first).to_be_visible()
    delete_jobs()


@pytest.mark.parametrize(
    ("scheme", "width"),
    [("light", 390), pytest.param("dark", 1280, marks=pytest.mark.thorough)],
)
@pytest.mark.breaks_law
def test_no_page_is_wider_than_the_window_and_ours_shut_nobody_out(
    log_in: LogIn, make_product: MakeProduct, scheme: str, width: int
) -> None:
    page = log_in(viewport={"width": width, "height": 800}, color_scheme=scheme)
    lamp = make_product(3, name="Lamp", low_stock_threshold=5)
    order = place((lamp, 1))
    sale = run(Parameters(strategies=["single_statement"], stock=1, buyers=2))
    mug = make_product(3, name="Mug", backstop=False)
    for units in (1, 2):  # a basket and an order of units that get lost then
        reservations.reserve(mug, units, buyer=f"B{units}")
    Product.objects.filter(pk=mug.pk).update(stock=-2, units_received=1)
    trouble = shop_alerts.Trouble(
        ShopAlert.Kind.REFUND_REFUSED, "refund 1", "It was refused. " * 9, order.pk
    )
    shop_alerts.raise_alert(trouble)
    tasks.check_law(0)
    alert = StockAlert.objects.get(product=lamp)
    ours = [
        "",
        f"inventory/product/{lamp.pk}/receive/",
        f"inventory/product/{lamp.pk}/stock-history/",
        f"inventory/product/{lamp.pk}/holders/",
        f"inventory/product/{lamp.pk}/holders/release/?network=unknown",
        f"experiments/flashsale/{sale.pk}/change/",
        "experiments/flashsale/run/",
        f"shop/order/{order.pk}/refund-units/",
        f"shop/order/{order.pk}/packing-slip/",
        f"inventory/product/{lamp.pk}/history/",
    ]
    ours.append(f"inventory/product/{mug.pk}/rescue/")
    unfolds = [
        "shop/shopalert/",
        f"shop/shopalert/{ShopAlert.objects.get().pk}/change/",
        "inventory/product/",
        "inventory/product/add/",
        f"inventory/product/{lamp.pk}/change/",
        "inventory/stockalert/",
        f"inventory/stockalert/{alert.pk}/change/",
        "inventory/reservation/",
        "inventory/stockmovement/",
        "inventory/stockmovement/import/",
        "shop/order/",
        f"shop/order/{order.pk}/change/",
        "shop/payment/",
        "shop/refund/",
        "shop/refusal/",
        f"auth/user/{User.objects.get().pk}/change/",
        "auth/group/add/",
    ]
    for path in ours + unfolds:
        page.goto(f"/admin/{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        if path in ours:
            assert violations(page) == [], path
    delete_jobs()


def test_what_a_buyer_types_without_a_space_makes_no_page_wider(
    log_in: LogIn, make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This holds for future fields of the checkout, too."""
    monkeypatch.setattr(Order, "CHECKOUT_FIELDS", (*Order.CHECKOUT_FIELDS, "tracking"))
    order = place((make_product(), 1))
    Order.objects.update(name="W" * 200, street="W" * 1000, tracking="W" * 100)
    page = log_in(viewport={"width": 390, "height": 800})
    for path in (
        f"/admin/shop/order/{order.pk}/change/",
        f"/admin/shop/order/{order.pk}/packing-slip/",
        f"/orders/{order.token}/",
    ):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
    delete_jobs()


def violations(page: Page) -> list[str]:
    """The violations that axe finds, without those of Unfold's frame, which lacks landmarks."""
    found = Axe().run(page).response["violations"]
    return [each["id"] for each in found if each["id"] not in OF_THE_FRAME]
