"""Figures of the database, right for situations that are made here."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import OperationalError, connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from inventory import alerts, reservations
from inventory.models import Product, Reservation, StockAlert, StockCheck
from shop.metrics import collectors, exposition
from shop.models import Dispute, Order, Payment, Refund, ShopAlert
from tests.conftest import MakeProduct
from tests.shop.metrics.conftest import Scrape
from tests.shop.metrics.figures import Figures

MINUTE = timedelta(minutes=1)

pytestmark = pytest.mark.django_db


def figures() -> Figures:
    return Figures(exposition.expose().decode())


def is_about(seconds: float | None, right: float) -> bool:
    """Whether it is this age, and what the test has taken meanwhile."""
    return seconds is not None and right <= seconds < right + 60


class TestStock:
    def test_units_are_those_of_the_last_check(self, make_product: MakeProduct) -> None:
        product = make_product(10)
        held = reservations.reserve(product, 3, buyer="a")
        sold = reservations.reserve(product, 2, buyer="b")
        reservations.confirm(sold.pk)
        make_product(5)
        alerts.check_all()
        reservations.release(held.pk)  # after the check
        StockCheck.objects.update(checked_at=Now() - 7 * MINUTE)
        now = figures()
        assert now.values_of("shop_stock_units", "state") == {"available": 10, "held": 3, "sold": 2}
        assert now("shop_stock_oversold_units") == 0
        assert now("shop_stock_drift_units") == 0
        assert is_about(now("shop_stock_check_seconds"), 7 * 60)

    @pytest.mark.breaks_law
    def test_oversold_and_drift_add_up_and_never_cancel(self, make_product: MakeProduct) -> None:
        """One product has a unit too many, another two too few, a third sold what isn't there."""
        for stock in (11, 8):
            Product.objects.filter(pk=make_product(10).pk).update(stock=stock)
        oversold = make_product(1, backstop=False)
        for buyer in ("a", "b", "c"):  # all three read the one unit, and write zero
            Product.objects.filter(pk=oversold.pk).update(stock=1)
            reservations.reserve(oversold, 1, buyer=buyer, strategy="single_statement")
        exhibit = make_product(10, is_exhibit=True)
        Product.objects.filter(pk=exhibit.pk).update(stock=1000)
        alerts.check_all()
        now = figures()
        assert now("shop_stock_oversold_units") == 2
        assert now("shop_stock_drift_units") == 1 + 2 + 2
        assert now.values_of("shop_stock_units", "state") == {"available": 19, "held": 3, "sold": 0}

    def test_before_the_first_check_nobody_knows(self) -> None:
        now = figures()
        assert now.values_of("shop_stock_units", "state") == {}
        assert now("shop_stock_oversold_units") is None
        assert now("shop_stock_drift_units") is None
        assert math.isnan(now("shop_stock_check_seconds") or 0)
        assert now("shop_collector_success", collector="stock") == 1

    def test_a_shop_without_products_has_no_units(self) -> None:
        alerts.check_all()
        assert set(figures().values_of("shop_stock_units", "state").values()) == {0}


def test_lapsed_holds(make_product: MakeProduct) -> None:
    product = make_product(10)
    first, second, _, sold, released = (
        reservations.reserve(product, 1, buyer=str(number)) for number in range(5)
    )
    reservations.confirm(sold.pk)
    reservations.release(released.pk)
    lapsed = [first.pk, second.pk, sold.pk, released.pk]
    Reservation.objects.filter(pk__in=lapsed).update(expires_at=Now() - MINUTE)
    assert figures()("shop_lapsed_holds") == 2
    reservations.expire_lapsed()
    assert figures()("shop_lapsed_holds") == 0


def test_open_alerts_by_kind(make_product: MakeProduct) -> None:
    kinds = {*StockAlert.Kind.values, *ShopAlert.Kind.values}
    assert figures().values_of("shop_alerts_open", "kind") == {kind.lower(): 0 for kind in kinds}
    for _ in range(2):
        make_product(1, low_stock_threshold=5)
    make_product(1, low_stock_threshold=5, is_exhibit=True, backstop=False)
    Product.objects.filter(is_exhibit=True).update(stock=-1)  # the database raises an alert
    alerts.check_all()
    for subject, resolved_at in (("a", None), ("b", None), ("c", Now())):
        kind = ShopAlert.Kind.REFUND_LATE
        ShopAlert.objects.create(kind=kind, subject=subject, text="", resolved_at=resolved_at)
    Product.objects.filter(is_exhibit=True).update(stock=1)
    found = figures().values_of("shop_alerts_open", "kind")
    assert StockAlert.objects.open().filter(product__is_exhibit=True).exists()
    assert {kind: number for kind, number in found.items() if number} == {
        "low_stock": 2,
        "refund_late": 2,
    }


def make_order() -> Order:
    return Order.objects.create(
        idempotency_key=str(uuid4()), buyer="b", currency="EUR", shipping_cost=0, total=10
    )


def make_payment(state: str, **fields: Any) -> Payment:
    return Payment.objects.create(
        order=make_order(),
        provider="demo",
        amount=10,
        currency="EUR",
        state=state,
        **{"expires_at": Now(), **fields},
    )


def test_payments() -> None:
    assert figures()("shop_payment_oldest_unsettled_seconds") == 0
    ages = {"STARTED": [2, 5, 3], "PAID": [60, 90], "DECLINED": [80]}
    assert set(ages) == set(Payment.State.values)  # the statement knows these three
    for state, minutes in ages.items():
        for number in minutes:
            make_payment(state, started_at=Now() - number * MINUTE)
    now = figures()
    assert now.values_of("shop_payments", "state") == {"started": 3, "paid": 2, "declined": 1}
    assert is_about(now("shop_payment_oldest_unsettled_seconds"), 5 * 60)


def test_refunds() -> None:
    assert figures().values_of("shop_refunds", "state") == {"due": 0, "failed": 0}
    payment = make_payment("PAID")
    for state, number in {"DUE": 3, "FAILED": 2, "DONE": 4, "UNDONE": 1}.items():
        for _ in range(number):
            Refund.objects.create(payment=payment, key=str(uuid4()), amount=1, state=state)
    assert figures().values_of("shop_refunds", "state") == {"due": 3, "failed": 2}


def test_disputes() -> None:
    payment = make_payment("PAID")
    for state, number in {"INQUIRY": 1, "OPEN": 2, "WON": 3}.items():
        for _ in range(number):
            Dispute.objects.create(
                payment=payment, reference=str(uuid4()), amount=1, state=state, opened_at=Now()
            )
    right = {"inquiry": 1, "open": 2, "won": 3, "lost": 0}
    assert figures().values_of("shop_disputes", "state") == right


def make_job(status: str, *, queued: str = "0", planned: str | None = None) -> None:
    """Make a job that was queued, and perhaps planned, so many minutes ago (less: from now)."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO procrastinate_jobs (queue_name, task_name, status, scheduled_at)
            VALUES ('q', 'task', %s::procrastinate_job_status,
                statement_timestamp() - %s * interval '1 min') RETURNING id
            """,
            [status, planned],
        )
        [job_id] = cursor.fetchone()
        cursor.execute(
            "UPDATE procrastinate_events SET at = statement_timestamp() - %s * interval '1 min'"
            " WHERE job_id = %s",
            [queued, job_id],
        )


class TestJobs:
    def test_none(self) -> None:
        now = figures()
        assert now("shop_jobs_waiting") == now("shop_jobs_failed") == 0
        assert now("shop_job_oldest_waiting_seconds") == 0

    def test_those_that_could_start_now_wait(self) -> None:
        make_job("todo", queued="3")
        make_job("todo", queued="7", planned="2")
        make_job("todo", queued="30", planned="-10")  # its time is still to come
        make_job("doing", queued="40")
        make_job("succeeded", queued="50")
        for _ in range(2):
            make_job("failed", queued="60")
        now = figures()
        assert now("shop_jobs_waiting") == 2
        assert now("shop_jobs_failed") == 2
        assert is_about(now("shop_job_oldest_waiting_seconds"), 3 * 60)

    def test_a_job_that_was_planned_waits_since_that_time(self) -> None:
        make_job("todo", queued="90", planned="20")
        make_job("todo", queued="4")
        assert is_about(figures()("shop_job_oldest_waiting_seconds"), 20 * 60)


class TestWorker:
    def test_none_was_ever_seen(self) -> None:
        assert math.isnan(figures()("shop_worker_seen_seconds") or 0)

    def test_the_last_of_several(self) -> None:
        self.run(
            "INSERT INTO procrastinate_workers (last_heartbeat)"
            " SELECT now() - age * interval '1 min' FROM unnest(ARRAY[9, 4, 7]) AS age"
        )
        assert is_about(figures()("shop_worker_seen_seconds"), 4 * 60)

    def test_one_that_has_stopped_in_order_is_missed_all_the_same(self) -> None:
        """It deletes its row. The job that it queued in its last minute tells of it."""
        self.run(
            "INSERT INTO procrastinate_periodic_defers (task_name, defer_timestamp)"
            " VALUES ('t', floor(extract(epoch FROM now())) - 600)"
        )
        assert is_about(figures()("shop_worker_seen_seconds"), 600)

    def run(self, sql: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(sql)


class TestTheCost:
    def test_each_collector_sends_one_statement(self, scrape: Scrape) -> None:
        scrape()  # whatever is asked only once
        with CaptureQueriesContext(connection) as captured:
            scrape()
        sent = [query["sql"] for query in captured if "SAVEPOINT" not in query["sql"]]
        bounds = [sql for sql in sent if "statement_timeout" in sql]
        assert len(bounds) == len(collectors.COLLECTORS)
        assert len(sent) == 2 * len(collectors.COLLECTORS)

    def test_each_family_has_one_collector(self) -> None:
        names = [family.name for each in collectors.COLLECTORS for family in each.families]
        assert len(names) == len(set(names)) == len(collectors.FAMILIES)

    def test_no_statement_reads_all_reservations_or_payments(self) -> None:
        """There are millions of them in a shop that has been open for long."""
        for collector in collectors.COLLECTORS:
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL enable_seqscan = off")
                cursor.execute(f"EXPLAIN {collector.sql}")
                plan = "\n".join(row[0] for row in cursor.fetchall())
            for table in ("inventory_reservation", "inventory_stockmovement", "shop_payment"):
                assert f"Seq Scan on {table}" not in plan, collector.name


class TestFailures:
    def test_the_others_are_still_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for broken in ("SELECT broken", "SELECT pg_sleep(60)"):
            with_broken_one = [
                replace(each, sql=broken) if each.name == "alerts" else each
                for each in collectors.COLLECTORS
            ]
            monkeypatch.setattr(collectors, "COLLECTORS", with_broken_one)
            now = figures()
            success = now.values_of("shop_collector_success", "collector")
            assert [name for name, value in success.items() if value != 1] == ["alerts"]
            assert now.values_of("shop_alerts_open", "kind") == {}
            assert now("shop_jobs_waiting") == 0

    def test_a_database_that_is_away_is_asked_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        attempts = []

        def fail(collector: collectors.Collector) -> Any:
            attempts.append(collector.name)
            raise OperationalError("connection refused")

        monkeypatch.setattr(collectors, "_query", fail)
        success = figures().values_of("shop_collector_success", "collector")
        assert len(attempts) == 1
        assert success.pop("counters") == 1
        assert set(success) == {each.name for each in collectors.COLLECTORS}
        assert set(success.values()) == {0}
