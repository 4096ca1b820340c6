"""The dashboard, the banner, alerts, and access to the admin."""

from __future__ import annotations

import itertools
import re
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from django.conf import LazySettings
from django.contrib import messages
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from inventory import alerts, stock
from inventory.admin.base import change_url
from inventory.experiments.flash_sale.sale import Parameters, run
from inventory.experiments.models import FlashSale
from inventory.experiments.tasks import run_flash_sale
from inventory.models import Product, Reservation, StockAlert, StockCheck
from inventory.reservations import confirm, reserve
from shop import basket, orders, shop_alerts
from shop.models import Dispute, Order, Refund, Refusal, ShopAlert
from tests.concurrency import at_once, lapse
from tests.conftest import MakeProduct
from tests.shop.admin.conftest import Staff, fields_of, words
from tests.shop.orders.steps import APPROVE, at_bank, place, queued

INDEX = "/admin/"


def figures(response) -> dict[str, str]:  # type: ignore[no-untyped-def]
    return {figure.label: figure.value for figure in response.context["figures"]}


@pytest.mark.django_db
class TestDashboard:
    def test_a_new_shop(self, admin: Client) -> None:
        html = admin.get(INDEX).content.decode()
        assert "It was not checked yet" in html
        assert "Nothing is low." in html

    def test_the_law_holds(self, admin: Client, make_product: MakeProduct) -> None:
        make_product(3)
        response = admin.post("/admin/check-stock/", follow=True)
        assert words(response) == ["Checked: every unit is accounted for."]
        assert re.search(
            r"<strong>Every unit is accounted for</strong>, checked \d s ago",
            response.content.decode(),
        )

    @pytest.mark.breaks_law
    def test_the_law_is_broken(self, admin: Client, make_product: MakeProduct) -> None:
        product = make_product(10, name="Lamp")
        Product.objects.filter(pk=product.pk).update(stock=12)
        response = admin.post("/admin/check-stock/", follow=True)
        assert words(response) == ["Checked: the stock of 1 product is wrong."]
        html = response.content.decode()
        assert "<strong>Stock is wrong</strong>" in html
        assert "drift +2, oversold 0" in html

    @pytest.mark.breaks_law
    def test_exhibits_are_left_out(self, admin: Client, make_product: MakeProduct) -> None:
        product = make_product(10, is_exhibit=True, name="Broken on purpose")
        Product.objects.filter(pk=product.pk).update(stock=12)
        html = admin.post("/admin/check-stock/", follow=True).content.decode()
        assert StockAlert.objects.open().count() == 1
        assert "Every unit is accounted for" in html
        assert "None: all is well." in html
        assert "Broken on purpose" not in html
        assert "exhibit" not in html.lower()

    def test_the_figures_and_the_lists_behind_them(
        self, admin: Client, make_product: MakeProduct
    ) -> None:
        lamp = make_product(20, price=Decimal("10.00"), low_stock_threshold=50)
        exhibit = make_product(5, is_exhibit=True)
        lapse(reserve(exhibit, 2, buyer="A"))
        confirm(reserve(exhibit, 1, buyer="A").pk)
        place((lamp, 2))
        confirm(reserve(lamp, 3, buyer="B").pk)
        reserve(lamp, 1, buyer="C", hold_for=timedelta(minutes=1))
        response = admin.get(INDEX)
        assert figures(response) == {
            "Units available": "14",
            "Units held": "3",
            "Units sold today": "3",
            "Holds that lapse soon": "1",
            "Orders to ship": "0",
            "Orders waiting for payment": "1",
        }
        lengths = {"Units held": 2, "Units sold today": 1, "Holds that lapse soon": 1}
        for figure in response.context["figures"]:
            behind = admin.get(figure.url)
            assert behind.status_code == 200
            if figure.label in lengths:
                assert len(behind.context["cl"].result_list) == lengths[figure.label]
        assert "14 left, at least 50 wanted" in response.content.decode()

    def test_what_has_lapsed_is_told_apart_and_lapses_no_more(
        self, admin: Client, make_product: MakeProduct
    ) -> None:
        """While no worker runs, lapsed holds still count as held."""
        lamp = make_product(9)
        lapse(reserve(lamp, 2, buyer="A"))
        reserve(lamp, 1, buyer="B")
        response = admin.get(INDEX)
        assert figures(response)["Units held"] == "3"
        assert figures(response)["Holds that lapse soon"] == "0"
        assert "2 lapsed, free for the next buyer" in response.content.decode()

    def test_what_is_to_be_sent_is_counted_and_listed_oldest_first(
        self, admin: Client, make_product: MakeProduct
    ) -> None:
        lamp = make_product(9)
        placed = [place((lamp, 1), buyer=buyer) for buyer in "ABCDE"]
        states = ["PAID", "SHIPPED", "PENDING", "PAID", "PAID"]
        for order, state in zip(placed, states, strict=True):
            paid_at = None if state == "PENDING" else timezone.now()
            Order.objects.filter(pk=order.pk).update(state=state, paid_at=paid_at)
        [first, _, _, second, third] = placed
        response = admin.get(INDEX)
        assert figures(response)["Orders to ship"] == "3"
        [url] = [f.url for f in response.context["figures"] if f.label == "Orders to ship"]
        assert list(admin.get(url).context["cl"].result_list) == [first, second, third]
        assert second.number in admin.get(url).content.decode()

    def test_sales_and_refusals_of_the_last_day(
        self, admin: Client, make_product: MakeProduct
    ) -> None:
        lamp = make_product(3)
        confirm(reserve(lamp, 2, buyer="A").pk)
        with pytest.raises(basket.BasketError):
            basket.reserve(lamp, 2, buyer="B", key=UUID(int=1), address="203.0.113.7")
        assert Refusal.objects.get().quantity == 2
        chart = admin.get(INDEX).context["hours"].data
        assert '"units sold", "data": [' + "0, " * 23 + "2]" in chart
        assert '"buyers refused", "data": [' + "0, " * 23 + "1]" in chart

        links = admin.get(INDEX).context["hours_links"]
        assert [name for name, url in links] == ["Sales", "Refusals"]
        assert [len(admin.get(url).context["cl"].result_list) for name, url in links] == [1, 1]

    def test_an_old_check_vouches_for_nothing(self, admin: Client) -> None:
        alerts.check_all()
        StockCheck.objects.update(checked_at=timezone.now() - timedelta(hours=3))
        html = admin.get(INDEX).content.decode()
        assert "Every unit was accounted for</strong>, checked 3 h ago" in html
        assert "law--kept" not in html

    def test_each_sees_what_they_may(self, staff: Staff, make_product: MakeProduct) -> None:
        make_product(0, low_stock_threshold=1, name="Lamp")
        alerts.check_all()
        may = Permission.objects.filter(codename__in=["view_order", "view_stockalert"])
        client = staff("auditor")
        Group.objects.get(name="auditor").permissions.set(may)
        response = client.get(INDEX)
        assert list(figures(response)) == ["Orders to ship", "Orders waiting for payment"]
        html = response.content.decode()
        assert "Every unit is accounted for" in html
        assert "left, at least" not in html

    @pytest.mark.parametrize("group", ["", "merchant", "auditor"])
    def test_it_takes_ten_queries_at_most(
        self,
        staff: Staff,
        make_product: MakeProduct,
        django_assert_max_num_queries: object,
        group: str,
    ) -> None:
        for number in range(8):
            product = make_product(3, low_stock_threshold=5)
            place((product, 1), buyer=f"B{number}")
        alerts.check_all()
        client = staff(group)
        client.get(INDEX)
        with django_assert_max_num_queries(10):  # type: ignore[operator]
            assert client.get(INDEX).status_code == 200

    def test_staff_without_rights_sees_no_figures(self, staff: Staff) -> None:
        User.objects.create_user("new", is_staff=True)
        client = Client()
        client.force_login(User.objects.get(username="new"))
        html = client.get(INDEX).content.decode()
        assert "Units available" not in html
        refused = client.post("/admin/check-stock/")
        assert refused.status_code == 403
        assert "Your account may not do this" in refused.content.decode()
        assert "Back to the dashboard" in refused.content.decode()

    @pytest.mark.parametrize(("group", "may"), [("merchant", True), ("auditor", False), ("", True)])
    def test_who_may_change_alerts_checks(self, staff: Staff, group: str, may: bool) -> None:
        client = staff(group)
        html = client.get(INDEX).content.decode()
        assert "It was not checked yet" in html
        assert ("Check now" in html) is may
        assert client.post("/admin/check-stock/").status_code == (302 if may else 403)
        assert StockCheck.objects.exists() is may

    def test_checking_is_a_post_of_staff(self, admin: Client, client: Client) -> None:
        assert admin.get("/admin/check-stock/").status_code == 405
        assert client.post("/admin/check-stock/").status_code == 302


class Banner(NamedTuple):
    html: str
    titles: list[str]


def banners(response: Any) -> list[Banner]:
    """The banners of alerts on a page: the one of orders and jobs, then the one of stock."""
    found = re.findall(r'<aside class="banner".*?</aside>', response.content.decode(), re.DOTALL)
    return [
        Banner(html, [str(title) for title in re.findall(r"<li>\s*<a [^>]*>([^<]*)</a>", html)])
        for html in found
    ]


_subjects = itertools.count(1)


def trouble(order: Order | None = None) -> shop_alerts.Trouble:
    """Trouble of a subject of its own."""
    subject = f"refund {next(_subjects)}"
    order_id = order.pk if order else None
    return shop_alerts.Trouble(ShopAlert.Kind.REFUND_LATE, subject, "Late.", order_id)


@pytest.mark.django_db
class TestAlerts:
    def test_the_banner_is_on_every_page_until_acknowledged(
        self, admin: Client, make_product: MakeProduct
    ) -> None:
        product = make_product(1, name="Lamp", low_stock_threshold=2)
        alerts.check_all()
        for name in ("index", "shop_order_changelist", "inventory_product_add"):
            assert "Lamp: low stock" in admin.get(reverse(f"admin:{name}")).content.decode()
        url = reverse("admin:inventory_stockalert_acknowledge", args=[StockAlert.objects.get().pk])
        assert url in admin.get(change_url(StockAlert.objects.get())).content.decode()
        assert "no longer shows this alert" in admin.get(url).content.decode()
        response = admin.post(url, {"confirmed": "yes"}, follow=True)
        assert words(response) == ["You have acknowledged low stock of Lamp."]
        assert 'class="banner"' not in response.content.decode()
        assert StockAlert.objects.open().count() == 1
        again = admin.post(url, {"confirmed": "yes"}, follow=True)
        assert "already" in words(again)[0]
        assert LogEntry.objects.count() == 1
        assert url not in again.content.decode()  # nothing to acknowledge any more
        stock.receive(product, 5)
        assert not StockAlert.objects.open().exists()

    def test_the_banner_has_three_lines_and_says_how_many_more_there_are(
        self, admin: Client, make_product: MakeProduct
    ) -> None:
        for _ in range(105):
            shop_alerts.raise_alert(trouble())
        for number in range(5):
            make_product(1, name=f"Lamp {number}", low_stock_threshold=2)
        alerts.check_all()
        others, stock_alerts = banners(admin.get("/admin/shop/order/"))
        assert [len(each.titles) for each in (others, stock_alerts)] == [3, 3]
        assert "<strong>105 things need a person</strong>" in others.html
        assert "and 102 more</a>" in others.html
        assert "<strong>5 stock alerts are open</strong>" in stock_alerts.html
        assert "and 2 more</a>" in stock_alerts.html
        ShopAlert.objects.exclude(pk__in=ShopAlert.objects.values("pk")[:3]).delete()
        assert " more</a>" not in banners(admin.get("/admin/shop/order/"))[0].html

    def test_a_page_about_an_order_shows_that_orders_alerts_first(
        self, admin: Client, make_product: MakeProduct
    ) -> None:
        product = make_product(9)
        order, other = place((product, 1)), place((product, 1), buyer="B")
        for each in (order, other):
            at_bank(each, APPROVE)
            orders.settle(each.pk)
        payment = order.payments.get()
        refund = payment.refunds.create(key="1", amount=1, reason="GOODWILL")
        dispute = payment.disputes.create(
            reference="1", amount=1, state="WON", opened_at=payment.started_at
        )
        shop_alerts.raise_alert(trouble(order))
        for _ in range(105):
            shop_alerts.raise_alert(trouble(other))
        pages = [change_url(each) for each in (order, payment, refund, dispute)]
        for page in (*pages, reverse("admin:shop_order_refund_all", args=[order.pk])):
            [banner] = banners(admin.get(page))
            numbers = [title.partition(":")[0] for title in banner.titles]
            assert numbers == [order.number, other.number, other.number]
        for page in (change_url(other), "/admin/shop/order/", INDEX):
            [banner] = banners(admin.get(page))
            assert order.number not in "".join(banner.titles)
        Refund.objects.all().delete()
        Dispute.objects.all().delete()

    def test_a_page_about_a_product_shows_that_products_alerts_first(
        self, admin: Client, make_product: MakeProduct
    ) -> None:
        lamps = [make_product(1, name=f"Lamp {n}", low_stock_threshold=2) for n in range(5)]
        alerts.check_all()
        for lamp in lamps:
            [banner] = banners(admin.get(change_url(lamp)))
            assert banner.titles[0] == f"{lamp.name}: low stock"

    @pytest.mark.breaks_law
    def test_exhibits_are_quiet(self, admin: Client, make_product: MakeProduct) -> None:
        """The dashboard doesn't count them. Neither the banner nor the list shows them."""
        for _ in range(3):
            exhibit = make_product(1, is_exhibit=True, low_stock_threshold=5)
            Product.objects.filter(pk=exhibit.pk).update(units_received=2)
        alerts.check_all()
        assert StockAlert.objects.open().count() >= 3
        pages = [INDEX, "/admin/inventory/product/", "/admin/shop/order/", change_url(exhibit)]
        for page in pages:
            assert 'class="banner"' not in admin.get(page).content.decode()
        make_product(0, low_stock_threshold=1)
        alerts.check_all()
        for page in pages:
            html = admin.get(page).content.decode()
            assert "<strong>1 stock alert is open</strong>" in html

    @pytest.mark.breaks_law
    def test_the_lists_show_the_shops_own_unless_exhibits_are_asked_for(
        self, admin: Client, make_product: MakeProduct
    ) -> None:
        own = make_product(3, low_stock_threshold=9)
        exhibit = make_product(3, is_exhibit=True, sku="SALE-1-naive")
        Product.objects.filter(pk=exhibit.pk).update(units_received=4)
        alerts.check_all()
        for product in (own, exhibit):
            reserve(product, 1, buyer="B")
        for name in ("product", "stockalert", "reservation", "stockmovement"):
            url = reverse(f"admin:inventory_{name}_changelist")

            def shown(**query: str) -> set[str]:
                rows = admin.get(url, query).context["cl"].result_list
                return {getattr(row, "product", row).sku for row in rows}

            assert shown() == {own.sku}
            assert shown(shelf="exhibits") == {exhibit.sku}
            assert shown(shelf="all") == {own.sku, exhibit.sku}
            assert shown(q=exhibit.sku) == {exhibit.sku}
            assert shown(q=own.sku) == {own.sku}
            assert shown(q=exhibit.sku, shelf="exhibits") == {exhibit.sku}
        held = (
            f"{reverse('admin:inventory_reservation_changelist')}?product__id__exact={exhibit.pk}"
        )
        assert len(admin.get(held).context["cl"].result_list) == 1  # from the exhibit's own page

    def test_many_at_once(self, staff: Staff, make_product: MakeProduct) -> None:
        for _ in range(8):
            make_product(0, low_stock_threshold=1)
        alerts.check_all()
        client = staff("merchant")
        assert "8 stock alerts are open" in client.get(INDEX).content.decode()
        url = reverse("admin:inventory_stockalert_changelist")
        ticked = [str(alert.pk) for alert in StockAlert.objects.all()]
        form = {"_selected_action": ticked, "action": "acknowledge_ticked"}
        client.post(url, {**form, "confirmed": "yes"})
        assert not StockAlert.objects.unacknowledged().exists()

    @pytest.mark.breaks_law
    def test_an_exhibit_does_not_wait_for_a_letter(
        self, admin: Client, make_product: MakeProduct
    ) -> None:
        Product.objects.filter(pk=make_product(1, is_exhibit=True).pk).update(units_received=2)
        alerts.check_all()
        html = admin.get(change_url(StockAlert.objects.get())).content.decode()
        assert "Never: a flash sale" in html

    def test_an_auditor_sees_and_does_not_acknowledge(
        self, staff: Staff, make_product: MakeProduct
    ) -> None:
        make_product(0, low_stock_threshold=1)
        alerts.check_all()
        alert = StockAlert.objects.get()
        client = staff("auditor")
        page = reverse("admin:inventory_stockalert_change", args=[alert.pk])
        assert client.get(page).status_code == 200
        assert client.post(page.replace("change", "acknowledge")).status_code == 403


@pytest.mark.django_db(transaction=True)
@pytest.mark.breaks_law
class TestFlashSales:
    FORM = {
        "key": "a form of its own",
        "strategies": ["naive", "single_statement"],
        "stock": "10",
        "buyers": "15",
        "least": "1",
        "most": "1",
        "payment_ms": "50",
        "rounds": "1",
    }
    RUN = "/admin/experiments/flashsale/run/"

    def test_a_worker_holds_it_and_the_page_shows_how_far_it_is(self, admin: Client) -> None:
        response = admin.post(self.RUN, self.FORM, follow=True)
        html = response.content.decode()
        assert "0 of 2 turns done" in html
        assert 'http-equiv="refresh"' in html
        sale = FlashSale.objects.get()
        assert (sale.state, str(sale.started_by)) == (FlashSale.State.QUEUED, "staff")
        [arguments] = queued("run_flash_sale")
        run_flash_sale(**arguments)
        html = admin.get(response.request["PATH_INFO"]).content.decode()
        assert "sold 15 of 10: 5 buyers will be disappointed" in html
        assert 'http-equiv="refresh"' not in html
        exhibits = StockAlert.objects.open().filter(product__is_exhibit=True)
        alerts.check_all()
        number = exhibits.count()
        assert number >= 2
        html = admin.get(response.request["PATH_INFO"]).content.decode()
        assert f"{number} stock alerts of its exhibits are open" in html
        [url] = re.findall(r'href="([^"]*stockalert[^"]*shelf=exhibits)"', html)
        assert len(admin.get(url).context["cl"].result_list) == number
        html = admin.get(INDEX).content.decode()
        assert "These strategies were not exact: naive." in html
        assert 'class="banner"' not in html

    def test_a_form_that_is_sent_again_queues_one_sale(self, admin: Client) -> None:
        """The form is sent twice at once, and then from an old page."""
        clients = [Client(), Client()]
        for client in clients:
            client.cookies = admin.cookies
        at_once([partial(client.post, self.RUN, self.FORM) for client in clients])
        *_, said = admin.post(self.RUN, self.FORM, follow=True).context["messages"]
        assert said.level == messages.WARNING
        assert "This form was sent before" in str(said)
        assert FlashSale.objects.count() == len(queued("run_flash_sale")) == 1
        admin.post(self.RUN, {**self.FORM, "key": "another"})
        assert FlashSale.objects.count() == 2

    def test_a_sale_whose_worker_was_killed_counts_as_broken_off(self, admin: Client) -> None:
        admin.post(self.RUN, self.FORM)
        FlashSale.objects.update(state=FlashSale.State.RUNNING)
        run_flash_sale(flash_sale_id=FlashSale.objects.get().pk)
        sale = FlashSale.objects.get()
        assert sale.state == FlashSale.State.BROKEN_OFF
        page = reverse("admin:experiments_flashsale_change", args=[sale.pk])
        assert "ended in the middle" in admin.get(page).content.decode()

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("buyers", "100000"),
            ("buyers", "0"),
            ("stock", "abc"),
            ("rounds", "6"),
            ("payment_ms", "60000"),
            ("strategies", "nonsense"),
            ("least", "3"),
        ],
    )
    def test_its_size_is_bounded(self, admin: Client, field: str, value: str) -> None:
        response = admin.post(self.RUN, {**self.FORM, field: value})
        assert response.status_code == 200
        assert response.context["form"].errors
        assert not FlashSale.objects.exists()

    def test_only_with_the_right(self, staff: Staff) -> None:
        assert staff("merchant").post(self.RUN, self.FORM).status_code == 403

    def test_one_from_the_command_line_is_shown_too(self, staff: Staff) -> None:
        sale = run(Parameters(strategies=["single_statement"], buyers=3, rounds=2))
        page = reverse("admin:experiments_flashsale_change", args=[sale.pk])
        assert "exact" in staff("auditor").get(page).content.decode()


# Access, and the content security policy


@pytest.mark.django_db
class TestLogin:
    def attempt(self, client: Client, password: str, name: str = "ada") -> int:
        return client.post("/admin/login/", {"username": name, "password": password}).status_code

    def test_too_many_wrong_passwords(self, client: Client, settings: LazySettings) -> None:
        settings.POSTS_PER_ADDRESS = None
        User.objects.create_superuser("ada", password="right-one-1")
        User.objects.create_superuser("bob", password="right-one-1")
        assert [self.attempt(client, "wrong") for _ in range(4)] == [200] * 4
        assert self.attempt(client, "wrong") == 429
        response = client.post("/admin/login/", {"username": "ada", "password": "right-one-1"})
        assert response.status_code == 429
        assert "wait a quarter of an hour" in response.content.decode()
        assert self.attempt(client, "right-one-1", "bob") == 302

    def test_the_right_password(self, client: Client) -> None:
        User.objects.create_superuser("ada", password="right-one-1")
        assert self.attempt(client, "wrong") == 200
        assert self.attempt(client, "right-one-1") == 302


@pytest.mark.django_db
def test_who_has_changed_anything_stays_with_the_log_of_it(
    admin: Client, make_product: MakeProduct
) -> None:
    admin.post(f"{change_url(make_product(1))[: -len('change/')]}switch-off/", {"confirmed": "yes"})
    staff = User.objects.get(username="staff")
    User.objects.create_superuser("boss")
    admin.force_login(User.objects.get(username="boss"))
    url = reverse("admin:auth_user_delete", args=[staff.pk])
    assert "make them inactive instead" in admin.get(url).content.decode()
    assert admin.post(url, {"post": "yes"}).status_code == 200
    assert LogEntry.objects.get().user == staff
    ticked = {"action": "delete_selected", "_selected_action": [staff.pk], "post": "yes"}
    admin.post(reverse("admin:auth_user_changelist"), ticked)
    assert User.objects.filter(pk=staff.pk).exists()


@pytest.mark.django_db
def test_nobody_deletes_themselves(admin: Client) -> None:
    """The log of it would go with them."""
    me = User.objects.get(username="staff")
    url = reverse("admin:auth_user_delete", args=[me.pk])
    assert "yourself: ask somebody else to do it" in admin.get(url).content.decode()
    admin.post(url, {"post": "yes"})
    ticked = {"action": "delete_selected", "_selected_action": [me.pk], "post": "yes"}
    admin.post(reverse("admin:auth_user_changelist"), ticked)
    assert User.objects.filter(pk=me.pk).exists()
    newcomer = User.objects.create_user("newcomer")
    admin.post(reverse("admin:auth_user_delete", args=[newcomer.pk]), {"post": "yes"})
    assert not User.objects.filter(pk=newcomer.pk).exists()
    assert LogEntry.objects.get().object_repr == "newcomer"


@pytest.mark.django_db
def test_only_the_admin_gets_a_looser_policy(admin: Client) -> None:
    of_admin = admin.get(INDEX)["Content-Security-Policy"]
    assert "script-src 'self' 'unsafe-eval'" in of_admin
    assert "style-src 'self' 'unsafe-inline'" in of_admin
    assert "script-src 'self' 'unsafe-inline'" not in of_admin
    of_shop = admin.get("/")["Content-Security-Policy"]
    assert "unsafe" not in of_shop


@pytest.mark.django_db
def test_every_list_opens_and_asks_a_constant_number_of_queries(
    admin: Client, make_product: MakeProduct, django_assert_max_num_queries: object
) -> None:
    for number in range(6):
        place((make_product(3, low_stock_threshold=5), 1), buyer=f"B{number}")
    alerts.check_all()
    for name in (
        "inventory_product",
        "inventory_stockalert",
        "inventory_reservation",
        "inventory_stockmovement",
        "experiments_flashsale",
        "shop_order",
        "shop_payment",
        "shop_refund",
        "shop_refusal",
        "shop_shopalert",
        "admin_logentry",
    ):
        with django_assert_max_num_queries(5) as seen:  # type: ignore[operator]
            assert admin.get(reverse(f"admin:{name}_changelist")).status_code == 200
        assert not [q for q in seen.captured_queries if "COUNT(*) AS" in q["sql"]], name
    assert Reservation.objects.count() == 6


@pytest.mark.django_db
@pytest.mark.parametrize("ticked", ["abc", "1" * 25, "-1"])
@pytest.mark.parametrize(
    ("name", "action"),
    [
        ("inventory_product", "switch_off_ticked"),
        ("inventory_product", "delete_or_refuse"),
        ("inventory_stockalert", "acknowledge_ticked"),
        ("shop_shopalert", "acknowledge_ticked"),
        ("inventory_reservation", "release_ticked"),
        ("auth_user", "delete_selected"),
        ("auth_group", "delete_selected"),
    ],
)
def test_ticks_that_are_no_rows(admin: Client, name: str, action: str, ticked: str) -> None:
    form = {"action": action, "_selected_action": [ticked]}
    response = admin.post(reverse(f"admin:{name}_changelist"), form, follow=True)
    assert response.status_code == 200


@pytest.mark.django_db
def test_forms_of_the_admin_keep_what_was_typed(admin: Client) -> None:
    response = admin.post("/admin/experiments/flashsale/run/", {"stock": "7", "buyers": "x"})
    assert fields_of(response.content.decode(), "stock")["stock"] == "7"


def test_a_name_longer_than_any_is_refused(client: Client) -> None:
    answer = client.post("/admin/login/", {"username": "x" * 300, "password": "x"})
    assert answer.status_code == 200
    assert "at most 150 characters" in answer.content.decode()


def test_who_logs_in_without_having_been_sent_there_comes_to_the_dashboard(
    client: Client,
) -> None:
    User.objects.create_superuser("boss", password="enough said")
    sent = {"username": "boss", "password": "enough said"}
    answer = client.post("/admin/login/", sent)
    assert (answer.status_code, answer["Location"]) == (302, "/admin/")
