"""Alerts have figures, are one per product and kind, and resolve when the fault is gone."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from inventory import alerts, monitor, stock
from inventory.experiments.flash_sale.sale import Parameters, run
from inventory.models import Product, StockAlert, StockCheck
from inventory.reservations import confirm, release, reserve
from tests.command_line import psql
from tests.concurrency import at_once, lapse
from tests.conftest import MakeProduct

NEGATIVE, OVERSOLD, DRIFT, LOW = (
    StockAlert.Kind.NEGATIVE_STOCK,
    StockAlert.Kind.OVERSOLD,
    StockAlert.Kind.DRIFT,
    StockAlert.Kind.LOW_STOCK,
)


def open_kinds(product: Product) -> set[str]:
    return set(StockAlert.objects.open().filter(product=product).values_list("kind", flat=True))


def figures(alert: StockAlert) -> tuple[int, int, int, int]:
    return alert.received, alert.available, alert.held, alert.sold


# Below zero: the database raises the alert, for every writer


@pytest.mark.django_db(transaction=True)
@pytest.mark.breaks_law
class TestBelowZero:
    def test_raw_sql_raises_it_on_commit_with_the_figures(self, make_product: MakeProduct) -> None:
        product = make_product(2, backstop=False)
        confirm(reserve(product, 1, buyer="A").pk)
        psql(f"UPDATE inventory_product SET stock = stock - 4 WHERE id = {product.pk}")
        alert = StockAlert.objects.get()
        assert (alert.product, alert.kind, alert.notified_at) == (product, NEGATIVE, None)
        assert figures(alert) == (2, -3, 0, 1)

    def test_raw_sql_that_rolls_back_raises_nothing(self, make_product: MakeProduct) -> None:
        product = make_product(2, backstop=False)
        psql(
            f"BEGIN; UPDATE inventory_product SET stock = -1 WHERE id = {product.pk};"
            " SET CONSTRAINTS ALL IMMEDIATE; ROLLBACK"
        )
        assert not StockAlert.objects.exists()

    def test_it_counts_the_reservation_of_its_own_transaction(
        self, make_product: MakeProduct
    ) -> None:
        """An unsafe strategy subtracts first, and then writes the reservation."""
        product = make_product(1, backstop=False)
        with transaction.atomic():
            Product.objects.filter(pk=product.pk).update(stock=-2)
            release_me = make_hold(product, 3)
        assert figures(StockAlert.objects.get()) == (1, -2, 3, 0)
        release(release_me.pk)

    def test_going_on_brings_the_figures_of_the_open_alert_up_to_date(
        self, make_product: MakeProduct
    ) -> None:
        product = make_product(0, backstop=False)
        Product.objects.filter(pk=product.pk).update(stock=-1)
        first = StockAlert.objects.get()
        Product.objects.filter(pk=product.pk).update(stock=-5)
        again = StockAlert.objects.get()
        assert (again.pk, again.available, again.raised_at) == (first.pk, -5, first.raised_at)

    def test_who_is_back_at_zero_before_the_commit_was_never_below(
        self, make_product: MakeProduct
    ) -> None:
        product = make_product(0, backstop=False)
        with transaction.atomic():
            Product.objects.filter(pk=product.pk).update(stock=-1)
            Product.objects.filter(pk=product.pk).update(stock=0)
        assert not StockAlert.objects.exists()

    def test_a_product_that_starts_below_zero(self, make_product: MakeProduct) -> None:
        product = make_product(0, stock=-3, backstop=False)
        assert open_kinds(product) == {NEGATIVE}

    def test_a_check_that_saw_the_product_before_does_not_resolve_it(
        self, make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The stock goes below zero between the check's read and its decision."""
        product = make_product(3, low_stock_threshold=5, backstop=False)
        look = monitor.needing_a_look

        def look_and_be_late() -> tuple[list[monitor.StockState], monitor.StockSums]:
            seen = look()
            Product.objects.filter(pk=product.pk).update(stock=-1)
            return seen

        monkeypatch.setattr(monitor, "needing_a_look", look_and_be_late)
        alerts.check_all()
        assert NEGATIVE in open_kinds(product)

    def test_checks_at_once_raise_one_of_each_kind(self, make_product: MakeProduct) -> None:
        product = make_product(3, low_stock_threshold=5)
        psql(f"UPDATE inventory_product SET stock = 2 WHERE id = {product.pk}")
        results = at_once([alerts.check_all] * 6)
        assert [type(result) for result in results] == [list] * 6
        kinds = StockAlert.objects.order_by("kind").values_list("kind", flat=True)
        assert list(kinds) == [DRIFT, LOW]


def make_hold(product: Product, units: int):  # type: ignore[no-untyped-def]
    return product.reservations.create(
        quantity=units, unit_price=1, buyer="A", expires_at="2100-01-01T00:00Z", strategy="naive"
    )


# Alerts that a check raises and resolves


@pytest.mark.django_db
def test_the_last_unit_goes_below_the_low_stock_threshold(make_product: MakeProduct) -> None:
    """One alert, with the number after the sale. No other until the stock has recovered."""
    product = make_product(4, low_stock_threshold=3)
    alerts.check_all()
    assert open_kinds(product) == set()
    confirm(reserve(product, 2, buyer="A").pk)
    alerts.check_all()
    alert = StockAlert.objects.get()
    assert (alert.kind, alert.available, alert.figures) == (LOW, 2, "2 left")
    confirm(reserve(product, 1, buyer="B").pk)
    alerts.check_all()
    assert StockAlert.objects.get().pk == alert.pk
    assert StockAlert.objects.get().available == 1
    stock.receive(product, 2)  # 3 again: recovered
    assert open_kinds(product) == set()
    reserve(product, 1, buyer="C")
    alerts.check_all()
    assert StockAlert.objects.count() == 2


@pytest.mark.django_db
def test_baskets_that_come_and_go_are_one_shortage(make_product: MakeProduct) -> None:
    product = make_product(6, low_stock_threshold=3)
    ada = User.objects.create_user("ada")
    for units in (4, 5, 6):
        hold = reserve(product, units, buyer="A")
        alerts.check_all()
        alert = StockAlert.objects.get()
        assert (alert.available, alert.resolved_at) == (6 - units, None)
        alerts.acknowledge([alert.pk], ada)
        release(hold.pk)
        alerts.check_all()
        assert open_kinds(product) == set()
    alert = StockAlert.objects.get()
    assert alert.acknowledged_by == ada


@pytest.mark.django_db
def test_what_has_lapsed_is_as_good_as_stock_though_no_worker_took_it_back(
    make_product: MakeProduct,
) -> None:
    product = make_product(6, low_stock_threshold=3)
    lapse(reserve(product, 4, buyer="A"))
    held = reserve(product, 1, buyer="B")
    alerts.check_all()
    assert not StockAlert.objects.exists()
    reserve(product, 3, buyer="C")
    lapse(held)
    alerts.check_all()
    assert not StockAlert.objects.exists()
    reserve(product, 1, buyer="C")
    alerts.check_all()
    assert figures(StockAlert.objects.get()) == (6, 2, 4, 0)


def test_a_shortage_after_a_receipt_or_a_day_is_another_one(make_product: MakeProduct) -> None:
    product = make_product(6, low_stock_threshold=3)

    def hold_and_release() -> int:
        hold = reserve(product, 5, buyer="A")
        alerts.check_all()
        release(hold.pk)
        alerts.check_all()
        return StockAlert.objects.count()

    assert hold_and_release() == 1
    stock.receive(product, 1)
    stock.remove(product, 1, reason=stock.Reason.DAMAGE)
    assert hold_and_release() == 2
    StockAlert.objects.update(resolved_at=timezone.now() - timedelta(hours=25))
    assert hold_and_release() == 3
    assert hold_and_release() == 3


@pytest.mark.django_db
@pytest.mark.breaks_law
def test_a_law_broken_again_raises_another_alert(make_product: MakeProduct) -> None:
    product = make_product(3)
    for number in (1, 2):
        Product.objects.filter(pk=product.pk).update(stock=5)
        alerts.check_all()
        assert StockAlert.objects.filter(kind=DRIFT).count() == number
        stock.repair(product)
        assert open_kinds(product) == set()


@pytest.mark.django_db
def test_a_product_that_is_switched_off_is_not_low(make_product: MakeProduct) -> None:
    make_product(0, low_stock_threshold=3, is_active=False)
    alerts.check_all()
    assert not StockAlert.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.breaks_law
def test_oversold_and_repaired_and_received(make_product: MakeProduct) -> None:
    """Fifteen naive buyers of ten units: the alerts at first, after a repair, after a receipt."""
    product = make_product(10, backstop=False)
    make_hold(product, 15)
    Product.objects.filter(pk=product.pk).update(stock=9)
    [state] = alerts.check_all()
    assert state.product_id == product.pk
    assert open_kinds(product) == {OVERSOLD, DRIFT}
    alert = StockAlert.objects.get(kind=DRIFT)
    assert (alert.drift, alert.oversold) == (14, 5)

    stock.repair(product)
    assert open_kinds(product) == {OVERSOLD, NEGATIVE}
    assert StockAlert.objects.get(kind=NEGATIVE).available == -5

    stock.receive(product, 5)
    assert open_kinds(product) == set()


@pytest.mark.django_db
@pytest.mark.breaks_law
def test_units_without_a_movement_are_drift(make_product: MakeProduct) -> None:
    product = make_product(3)
    Product.objects.filter(pk=product.pk).update(stock=5, units_received=5)
    alerts.check_all()
    assert open_kinds(product) == {DRIFT}
    assert "+2 received without a movement" in StockAlert.objects.get().figures


@pytest.mark.django_db
@pytest.mark.breaks_law
def test_a_check_notes_when_it_was_and_leaves_exhibits_out(make_product: MakeProduct) -> None:
    exhibit = make_product(3, is_exhibit=True)
    Product.objects.filter(pk=exhibit.pk).update(stock=2)
    assert alerts.check_all() == []
    assert open_kinds(exhibit) == {DRIFT}
    assert StockCheck.objects.get().broken == 0
    assert not StockAlert.objects.unsent().exists()
    assert len(alerts.check_all(exhibits=True)) == 1


@pytest.mark.django_db
def test_acknowledging_happens_once(make_product: MakeProduct) -> None:
    make_product(0, low_stock_threshold=1)
    alerts.check_all()
    alert = StockAlert.objects.get()
    ada, bob = (User.objects.create_user(name) for name in ("ada", "bob"))
    assert alerts.acknowledge([alert.pk], ada) == 1
    assert alerts.acknowledge([alert.pk], bob) == 0
    alert.refresh_from_db()
    assert alert.acknowledged_by == ada
    assert list(StockAlert.objects.unacknowledged()) == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.breaks_law
def test_a_flash_sale_raises_the_alerts_of_its_exhibits() -> None:
    sale = run(Parameters(strategies=["naive", "unguarded_decrement", "single_statement"]))
    naive, unguarded, safe = sale.results.order_by("pk")
    assert open_kinds(naive.product) == {OVERSOLD, DRIFT}
    assert open_kinds(unguarded.product) == {OVERSOLD, NEGATIVE}
    assert open_kinds(safe.product) == set()
    alert = StockAlert.objects.get(product=naive.product, kind=OVERSOLD)
    assert (alert.sold, alert.received, alert.oversold) == (15, 10, 5)
