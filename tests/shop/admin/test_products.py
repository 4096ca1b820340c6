"""Products in the admin: their form, deletion, and the actions that move stock."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from functools import partial

import html5lib
import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission, User
from django.db import transaction
from django.test import Client
from django.urls import reverse

from inventory import stock
from inventory.admin.product_forms import ProductForm
from inventory.exceptions import NotForSale
from inventory.models import Product, Reservation, StockMovement
from inventory.reservations import confirm, reserve
from tests.concurrency import at_once, wait_until_somebody_waits_for_a_lock
from tests.conftest import MakeProduct
from tests.shop.admin.conftest import Staff, fields_of, words

pytestmark = pytest.mark.django_db

HUGE = f"2026-01-01T00:00:00+00:00_{10**30}_00000000-0000-0000-0000-000000000000"


def page(product: Product, name: str = "change") -> str:
    return reverse(f"admin:inventory_product_{name}", args=[product.pk])


def opened(admin: Client, product: Product) -> dict[str, str]:
    """The fields that the product's form posts if nothing is changed in it."""
    return fields_of(admin.get(page(product)).content.decode(), "name")


# The form


class TestSavingTheForm:
    def test_does_not_write_back_stock_that_was_sold_meanwhile(
        self, admin: Client, make_product: MakeProduct
    ) -> None:
        """The form is opened at 10 units, four are sold, a new description is saved: 6 units."""
        product = make_product(10)
        form = opened(admin, product)
        confirm(reserve(product, 4, buyer="A").pk)
        response = admin.post(page(product), {**form, "description": "New"})
        assert response.status_code == 302
        product.refresh_from_db()
        assert (product.stock, product.description) == (6, "New")

    def test_writes_only_what_was_changed_in_it(
        self, admin: Client, make_product: MakeProduct
    ) -> None:
        product = make_product(1, low_stock_threshold=1)
        form = opened(admin, product)
        Product.objects.filter(pk=product.pk).update(
            price=Decimal("25.00"), low_stock_threshold=9, is_active=False
        )
        admin.post(page(product), {**form, "name": "Better"})
        product.refresh_from_db()
        assert product.name == "Better"
        assert (product.price, product.low_stock_threshold) == (Decimal("25.00"), 9)
        assert not product.is_active

    def test_says_so_if_the_price_was_changed_by_somebody_else(
        self, admin: Client, make_product: MakeProduct
    ) -> None:
        product = make_product(1, price=Decimal("10.00"))
        form = opened(admin, product)
        Product.objects.filter(pk=product.pk).update(price=Decimal("12.00"))
        response = admin.post(page(product), {**form, "price": "11.00"})
        assert response.status_code == 200
        assert "changed this from “10.00” to “12.00”" in response.content.decode()
        product.refresh_from_db()
        assert product.price == Decimal("12.00")

    def test_sent_twice_it_is_no_conflict_with_itself(
        self, admin: Client, make_product: MakeProduct
    ) -> None:
        product = make_product(1, price=Decimal("10.00"))
        form = {**opened(admin, product), "price": "11.00", "name": "Better"}
        for _ in range(2):
            assert admin.post(page(product), form).status_code == 302
        product.refresh_from_db()
        assert (product.price, product.name) == (Decimal("11.00"), "Better")

    def test_stock_can_not_be_typed(self, admin: Client, make_product: MakeProduct) -> None:
        product = make_product(3)
        form = opened(admin, product)
        assert not {"stock", "units_received", "version"} & set(form)
        admin.post(page(product), {**form, "stock": "99", "units_received": "99"})
        product.refresh_from_db()
        assert (product.stock, product.units_received) == (3, 3)

    def test_asks_once_more_before_an_unsafe_strategy(
        self, admin: Client, make_product: MakeProduct
    ) -> None:
        """The field shows the reason, and the box to tick beside it."""
        product = make_product(1)
        form = opened(admin, product)
        response = admin.post(page(product), {**form, "strategy": "naive"})
        errors = response.context["adminform"].form.errors
        assert "buyers get more units of this product than exist" in errors["strategy"][0]
        assert set(errors) == {"strategy"}
        html = response.content.decode()
        assert "To choose it, tick “Use it all the same”" in html
        assert '<a href="#id_strategy">Strategy</a>' in html.split("<fieldset")[0]  # at the top
        assert folded(html) == []
        product.refresh_from_db()
        assert product.strategy == ""
        again = fields_of(html, "name")
        admin.post(page(product), {**again, "confirm_unsafe": "on"})
        product.refresh_from_db()
        assert product.strategy == "naive"

    def test_what_few_need_is_folded_until_something_is_wrong_in_it(
        self, admin: Client, make_product: MakeProduct
    ) -> None:
        product = make_product(1)
        assert folded(admin.get(page(product)).content.decode()) == ["Advanced"]
        form = {**opened(admin, product), "price": "x"}
        assert folded(admin.post(page(product), form).content.decode()) == ["Advanced"]
        form = {**opened(admin, product), "slug": "no slug"}
        assert folded(admin.post(page(product), form).content.decode()) == []

    @pytest.mark.parametrize(
        "left_out_or_forged",
        [
            {"strategy": None},
            {"initial-strategy": "naive"},
            {"initial-strategy": "naive", "strategy": "naive"},
            {"initial-strategy": "nonsense", "strategy": "naive"},
            {"initial-strategy": "single_statement", "strategy": "process_mutex"},
            {"initial-strategy": None, "strategy": None},
            {"strategy": "nonsense"},
            {"initial-price": "x", "price": "y"},
            {"initial-max_per_buyer": "-1"},
            {"initial-name": None, "initial-slug": None},
            {"sku": None, "name": None, "slug": None},
            {"backstop": "x", "initial-backstop": None},
        ],
    )
    def test_a_form_that_no_page_of_ours_would_send(
        self, admin: Client, make_product: MakeProduct, left_out_or_forged: dict[str, str | None]
    ) -> None:
        """The form is answered, and chooses no strategy that oversells."""
        product = make_product(1)
        add = reverse("admin:inventory_product_add")
        new = {"name": "Kite", "sku": "KITE", "slug": "kite", "price": "12.50"}
        blank = fields_of(admin.get(add).content.decode(), "name")
        for url, whole in ((page(product), opened(admin, product)), (add, {**blank, **new})):
            form = {**whole, **left_out_or_forged}
            sent = {name: value for name, value in form.items() if value is not None}
            assert admin.post(url, sent).status_code in (200, 302)
        assert set(Product.objects.values_list("strategy", flat=True)) == {""}

    def test_explains_every_strategy(self, admin: Client, make_product: MakeProduct) -> None:
        html = admin.get(page(make_product(1))).content.decode()
        assert "updates are lost" in html
        assert "the fastest by far" in html

    @pytest.mark.breaks_law
    def test_the_backstop_stays_off_while_stock_is_below_zero(
        self, admin: Client, make_product: MakeProduct
    ) -> None:
        product = make_product(2, backstop=False)
        Product.objects.filter(pk=product.pk).update(stock=-3)
        response = admin.post(page(product), {**opened(admin, product), "backstop": "on"})
        assert "-3 units are available" in response.content.decode()
        product.refresh_from_db()
        assert not product.backstop


def folded(html: str) -> list[str]:
    """The names of the sections that are folded."""
    document = html5lib.parse(html, namespaceHTMLElements=False)
    summaries = document.findall(".//fieldset/details/summary")
    return ["".join(each.itertext()).split()[0] for each in summaries]


ADD = "/admin/inventory/product/add/"
KITE = {"name": "Kite", "sku": "KITE", "price": "12.50"}


def filled_in(client: Client, **fields: str) -> dict[str, str]:
    """The fields that the form for a new product posts."""
    return {**fields_of(client.get(ADD).content.decode(), "name"), **KITE, **fields}


class TestAddingAProduct:
    def test_without_stock(self, admin: Client) -> None:
        response = admin.post(ADD, filled_in(admin), follow=True)
        assert any("has no stock yet" in line for line in words(response))
        product = Product.objects.get()
        assert (product.stock, product.slug, product.strategy) == (0, "kite", "")
        assert page(product, "receive_units") in response.content.decode()

    def test_with_its_first_units(self, admin: Client) -> None:
        response = admin.post(ADD, filled_in(admin, initial_stock="12"), follow=True)
        assert "KITE: stock 0 → 12 (delivery)." in words(response)
        product = Product.objects.get()
        assert (product.stock, product.units_received) == (12, 12)
        movement = product.movements.get()
        assert (movement.units, movement.reason) == (12, "DELIVERY")
        assert str(movement.made_by) == "staff"

    @pytest.mark.parametrize("units", ["-1", "abc", "1.5", "1e3", "87893287498"])
    def test_a_number_of_units_that_makes_no_sense(self, admin: Client, units: str) -> None:
        response = admin.post(ADD, filled_in(admin, initial_stock=units))
        assert response.context["adminform"].form.errors["initial_stock"]
        assert not Product.objects.exists()

    def test_sent_twice(self, admin: Client) -> None:
        form = filled_in(admin, initial_stock="12")
        admin.post(ADD, form)
        again = admin.post(ADD, form).content.decode()
        product = Product.objects.get()
        assert "Kite</a> has this SKU already." in again
        assert page(product) in again
        assert (product.stock, product.movements.count()) == (12, 1)

    def test_units_need_the_right_to_move_stock(self, client: Client) -> None:
        clerk = User.objects.create_user("clerk", is_staff=True)
        clerk.user_permissions.set(
            Permission.objects.filter(codename__in=["add_product", "view_product"])
        )
        client.force_login(clerk)
        assert "initial_stock" not in fields_of(client.get(ADD).content.decode(), "name")
        client.post(ADD, filled_in(client, initial_stock="12"))
        assert Product.objects.get().stock == 0

    def test_the_address_of_its_page_is_made_from_its_name(self, admin: Client) -> None:
        for sku in ("1", "2", "3"):
            admin.post(ADD, filled_in(admin, sku=sku, slug=""))
        admin.post(ADD, filled_in(admin, sku="Ä 4", name="Чашка", slug=""))
        admin.post(ADD, filled_in(admin, sku="Ж", name="Чашка", slug=""))
        admin.post(ADD, filled_in(admin, sku="6", name="x" * 200, slug=""))
        slugs = list(Product.objects.order_by("pk").values_list("slug", flat=True))
        assert slugs == ["kite", "kite-2", "kite-3", "a-4", "product", "x" * 90]

    def test_an_address_that_is_taken(self, admin: Client, make_product: MakeProduct) -> None:
        make_product(1, slug="kite")
        html = admin.post(ADD, filled_in(admin, slug="kite")).content.decode()
        assert "Another product’s page has this address already." in html

    def test_a_price_with_a_comma(self, admin: Client) -> None:
        html = admin.post(ADD, filled_in(admin, price="19,90")).content.decode()
        assert "Enter an amount such as 19.90" in html
        assert 'value="19,90"' in html

    def test_an_unsafe_strategy_is_asked_for_twice(self, admin: Client) -> None:
        response = admin.post(ADD, filled_in(admin, strategy="naive", initial_stock="5"))
        assert not Product.objects.exists()
        again = fields_of(response.content.decode(), "name")
        admin.post(ADD, {**again, "confirm_unsafe": "on"})
        assert (Product.objects.get().strategy, Product.objects.get().stock) == ("naive", 5)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("fields", [{}, {"sku": "OTHER", "slug": "kite"}])
def test_two_products_of_one_sku_or_address_at_once(staff: Staff, fields: dict[str, str]) -> None:
    """The second one gets an error at the field, at any timing."""
    first, second = staff(name="ada"), staff(name="bob")
    kite = filled_in(first, slug="kite", initial_stock="3")
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():  # is there, and not to be seen yet
            Product.objects.create(**{**KITE, "slug": "kite"})
            late = partial(second.post, ADD, {**kite, **fields})
            answers = pool.submit(at_once, [late])
            wait_until_somebody_waits_for_a_lock()
        [answer] = answers.result()
    html = answer.content.decode()
    assert "already." in html
    assert Product.objects.count() == 1
    assert Product.objects.get().stock == 0


@pytest.mark.django_db(transaction=True)
def test_a_sale_between_reading_and_writing_the_product_counts(
    admin: Client, make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = make_product(10)
    form = opened(admin, product)
    check = ProductForm._check_for_other_changes

    def be_late(form: ProductForm) -> None:
        at_once([partial(reserve, product, 4, buyer="A")])
        check(form)

    monkeypatch.setattr(ProductForm, "_check_for_other_changes", be_late)
    admin.post(page(product), {**form, "description": "New"})
    product.refresh_from_db()
    assert (product.stock, product.description) == (6, "New")


# Receiving, removing, repairing


class TestMovingStock:
    def test_receiving_shows_old_and_new(self, admin: Client, make_product: MakeProduct) -> None:
        product = make_product(2, sku="LAMP")
        form = {"units": "5", "reason": "DELIVERY", "note": "Note 17", "key": "k"}
        response = admin.post(page(product, "receive_units"), form, follow=True)
        assert words(response) == ["LAMP: stock 2 → 7 (delivery)."]
        movement = StockMovement.objects.first()
        assert movement is not None
        assert (movement.units, movement.note, str(movement.made_by)) == (5, "Note 17", "staff")
        assert LogEntry.objects.get().change_message == "LAMP: stock 2 → 7 (delivery)."

    def test_a_form_that_is_sent_twice_moves_units_once(
        self, admin: Client, make_product: MakeProduct
    ) -> None:
        product = make_product(2, sku="LAMP")
        for name, moved in (("receive_units", "2 → 7"), ("remove_units", "7 → 2")):
            url = page(product, name)
            form = {**fields_of(admin.get(url).content.decode(), "units"), "units": "5"}
            assert moved in words(admin.post(url, form, follow=True))[0]
            assert "Nothing was re" in words(admin.post(url, form, follow=True))[0]
            response = admin.post(url, {**form, "units": "1"})
            assert "was sent before with other units" in response.content.decode()
        assert LogEntry.objects.count() == 2
        assert StockMovement.objects.count() == 3
        product.refresh_from_db()
        assert product.stock == 2

    @pytest.mark.parametrize(
        "units", ["", "0", "-1", "abc", "1.5", "2,5", "1e3", "87893287498", "1" + "0" * 21]
    )
    def test_a_number_that_makes_no_sense(
        self, admin: Client, make_product: MakeProduct, units: str
    ) -> None:
        product = make_product(2)
        for name, reason in (("receive_units", "DELIVERY"), ("remove_units", "DAMAGE")):
            form = {"units": units, "reason": reason, "note": "kept", "key": "k"}
            response = admin.post(page(product, name), form)
            assert response.status_code == 200
            assert response.context["form"].errors["units"]
            assert "kept" in response.content.decode()
        product.refresh_from_db()
        assert product.stock == 2

    def test_removing_more_than_is_available_is_refused_with_the_numbers(
        self, admin: Client, make_product: MakeProduct
    ) -> None:
        """Held and sold units stay."""
        product = make_product(10, sku="LAMP")
        reserve(product, 3, buyer="A")
        confirm(reserve(product, 4, buyer="B").pk)
        form = {"units": "4", "reason": "DAMAGE", "note": "", "key": "k"}
        response = admin.post(page(product, "remove_units"), form)
        assert "Only 3 of LAMP available, 4 asked for." in response.content.decode()
        product.refresh_from_db()
        assert (product.stock, product.units_received) == (3, 10)
        assert Reservation.objects.units() == 7

    @pytest.mark.breaks_law
    def test_repairing(self, admin: Client, make_product: MakeProduct) -> None:
        product = make_product(10, sku="LAMP")
        Product.objects.filter(pk=product.pk).update(stock=7)
        assert "7 → 10" in admin.get(page(product, "repair_count")).content.decode()
        response = admin.post(page(product, "repair_count"), {"note": "lost"}, follow=True)
        assert words(response) == ["LAMP: stock 7 → 10 (repair of the count)."]

    def test_the_history_tells_who_when_why_and_how(
        self, admin: Client, make_product: MakeProduct
    ) -> None:
        product = make_product(10, strategy="single_statement")
        reserve(product, 2, buyer="somebody-unknown")
        form = {"units": "3", "reason": "DAMAGE", "note": "dropped", "key": "k"}
        admin.post(page(product, "remove_units"), form)
        html = admin.get(page(product, "stock_history")).content.decode()
        assert html.index("damaged or lost: dropped") < html.index("reserved, held")
        assert html.index("reserved, held") < html.index("0 → 10")
        for seen in ("8 → 5", "somebody-unk", "Single statement", "a command or a job"):
            assert seen in html


def test_the_history_goes_on_page_by_page(admin: Client, make_product: MakeProduct) -> None:
    """Even if many entries share an instant: one statement may serve many buyers."""
    product = make_product(200)
    for number in range(130):
        reserve(product, 1, buyer=f"B{number}")
    Reservation.objects.update(created_at=StockMovement.objects.get().made_at)
    stock.receive(product, 1)
    seen, before = [], ""
    for length in (50, 50, 32):
        response = admin.get(page(product, "stock_history"), {"before": before})
        assert len(response.context["entries"]) == length
        seen += [entry.position for entry in response.context["entries"]]
        before = response.context["older"]
    assert before == ""
    assert seen == sorted(set(seen), reverse=True)


@pytest.mark.parametrize(
    "before", ["", "abc", "2026-01-01", "a_b_c", "9999-99-99T00:00:00+00:00_1_2", HUGE]
)
def test_a_history_from_nonsense(admin: Client, make_product: MakeProduct, before: str) -> None:
    response = admin.get(page(make_product(1), "stock_history"), {"before": before})
    assert response.status_code == 200


# Deleting


class TestDeleting:
    """History stays, and the page offers to switch the product off."""

    def test_a_product_with_a_history(self, admin: Client, make_product: MakeProduct) -> None:
        product = make_product(3, name="Lamp")
        reserve(product, 1, buyer="A")
        response = admin.get(page(product, "delete"), follow=True)
        assert "history must stay" in words(response)[0]
        assert "Switch Lamp off" in response.content.decode()
        assert admin.post(page(product, "delete"), {"post": "yes"}).status_code == 302
        assert Product.objects.exists()
        admin.post(page(product, "switch_off"), {"confirmed": "yes"})
        product.refresh_from_db()
        assert not product.is_active
        assert Reservation.objects.count() == 1

    def test_many_at_once(self, admin: Client, make_product: MakeProduct) -> None:
        products = [make_product(3), make_product(0)]
        ticked = {"_selected_action": [product.pk for product in products]}
        url = reverse("admin:inventory_product_changelist")
        response = admin.post(url, {"action": "delete_or_refuse", **ticked})
        assert "Nothing was deleted" in words(response)[0]
        assert "Switch them off instead?" in response.content.decode()
        assert Product.objects.count() == 2
        form = fields_of(response.content.decode(), "_selected_action")
        admin.post(url, {**form, "confirmed": "yes"})
        assert list(Product.objects.order_by("pk").values_list("is_active", flat=True)) == [
            False,
            True,
        ]

    def test_history_that_came_while_the_page_asked(
        self, admin: Client, make_product: MakeProduct
    ) -> None:
        """The button said "delete": it switches nothing off."""
        product = make_product(0)
        sent = {"_selected_action": [product.pk], "action": "delete_or_refuse", "confirmed": "yes"}
        stock.receive(product, 3)
        url = reverse("admin:inventory_product_changelist")
        response = admin.post(url, sent)
        assert "Switch them off instead?" in response.content.decode()
        product.refresh_from_db()
        assert product.is_active

    def test_who_may_delete_and_not_change_switches_nothing_off(
        self, staff: Staff, make_product: MakeProduct
    ) -> None:
        client, product = staff("auditor"), make_product(3)
        may = Permission.objects.get(codename="delete_product")
        Group.objects.get(name="auditor").permissions.add(may)
        sent = {"_selected_action": [product.pk], "action": "delete_or_refuse", "confirmed": "yes"}
        response = client.post(reverse("admin:inventory_product_changelist"), sent, follow=True)
        assert "Nothing was deleted" in words(response)[0]
        assert "Switch them off" not in response.content.decode()
        product.refresh_from_db()
        assert product.is_active
        response = client.get(page(product, "delete"), follow=True)
        assert response.status_code == 200
        assert "can’t be deleted" in words(response)[0]

    def test_what_never_had_stock_can_go(self, admin: Client, make_product: MakeProduct) -> None:
        ticked = {"_selected_action": [make_product(0).pk], "action": "delete_or_refuse"}
        url = reverse("admin:inventory_product_changelist")
        assert "for good" in admin.post(url, ticked).content.decode()
        assert Product.objects.exists()
        admin.post(url, {**ticked, "confirmed": "yes"})
        assert not Product.objects.exists()
        assert LogEntry.objects.get().is_deletion()


def test_a_product_that_is_switched_off_while_in_a_basket(
    admin: Client, make_product: MakeProduct
) -> None:
    """There are no new holds, but the buyer may still buy the held units."""
    product = make_product(3)
    hold = reserve(product, 1, buyer="A")
    admin.post(page(product, "switch_off"), {"confirmed": "yes"})
    product.refresh_from_db()
    with pytest.raises(NotForSale):
        reserve(product, 1, buyer="B")
    assert confirm(hold.pk).status == Reservation.Status.SOLD


# Rights


def test_an_auditor_sees_and_changes_nothing(staff: Staff, make_product: MakeProduct) -> None:
    auditor, product = staff("auditor"), make_product(3)
    assert auditor.get(page(product)).status_code == 200
    assert auditor.get(page(product, "stock_history")).status_code == 200
    for name in ("receive_units", "remove_units", "repair_count", "switch_off"):
        url = page(product, name)
        assert auditor.get(url).status_code == 403
        assert auditor.post(url, {"units": "1", "reason": "DELIVERY"}).status_code == 403
    assert auditor.post(page(product), {"name": "Mine"}).status_code == 403
    assert auditor.get(page(product, "delete")).status_code == 403
    assert auditor.get(reverse("admin:inventory_product_import")).status_code == 403


def test_a_merchant_does_all_of_it(staff: Staff, make_product: MakeProduct) -> None:
    merchant, product = staff("merchant"), make_product(3)
    for name in ("change", "receive_units", "remove_units", "repair_count", "switch_off"):
        assert merchant.get(page(product, name)).status_code == 200
    assert merchant.get(reverse("admin:auth_user_changelist")).status_code == 403
    run = reverse("admin:experiments_flashsale_run_flash_sale")
    assert merchant.get(run).status_code == 403


@pytest.mark.parametrize("strategy", [None, "", "naive", "combined", "nonsense"])
@pytest.mark.parametrize("shown", [None, "naive", "combined", "nonsense"])
def test_a_form_that_shows_another_strategy_than_was_saved(
    admin: Client, make_product: MakeProduct, strategy: str | None, shown: str | None
) -> None:
    """The form is an old one, or no browser sent it. The strategy saved since then stays."""
    product = make_product(3, strategy="single_statement")
    address = page(product)
    form = {
        **fields_of(admin.get(address).content.decode(), "sku"),
        "initial-strategy": shown,
        "strategy": strategy,
    }
    answer = admin.post(address, {name: value for name, value in form.items() if value is not None})
    assert answer.status_code in (200, 302)
    product.refresh_from_db()
    assert product.strategy in ("single_statement", "combined", "")
