"""The queue: a job exists if its order does, workers do it, and a killed worker loses nothing."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

import pytest
from django.db import connection, transaction
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob

from inventory.models import Product, Reservation
from inventory.reservations import reserve
from shop import jobs, orders, tasks
from shop.models import Order, Refund
from shop.payments.demo import Choice
from tests.concurrency import lapse
from tests.conftest import MakeProduct
from tests.shop.orders.steps import (
    APPROVE,
    at_bank,
    charged_at_bank,
    close_payment_time,
    delete_jobs,
    go_to_bank,
    lapse_all,
    now,
    place,
    queued,
    stock_of,
)

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = Path(__file__).resolve().parents[3]


def work() -> None:
    """A real worker, in a process of its own, does the waiting jobs, and ends."""
    database = connection.settings_dict
    url = (
        f"postgres://{quote(database['USER'])}:{quote(database['PASSWORD'])}@/"
        f"{quote(connection.settings_dict['NAME'])}"
    )
    environment = {
        **os.environ,
        "DATABASE_URL": url,
        "PGHOST": str(database["HOST"]),
        "PGPORT": str(database["PORT"]),
        "EMAIL_URL": "dummymail://",
    }
    done = subprocess.run(
        [sys.executable, "manage.py", "procrastinate", "worker", "--one-shot"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def left_over() -> list[str]:
    unfinished = ProcrastinateJob.objects.filter(status__in=["todo", "doing", "failed"])
    return list(unfinished.values_list("task_name", flat=True))


def test_a_job_is_queued_with_its_order_or_not_at_all(make_product: MakeProduct) -> None:
    order = place((make_product(), 1))
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        jobs.queue("send_order_paid", order_id=order.pk)
        assert len(queued("send_order_paid")) == 1
        raise ZeroDivisionError
    assert queued("send_order_paid") == []
    with pytest.raises(KeyError):
        jobs.queue("no_such_task")


@pytest.mark.parametrize("tidying", ["addresses", "ended_reservations", "old_refusals", "old_jobs"])
def test_a_job_that_waits_under_the_former_name_of_its_task_is_still_done(tidying: str) -> None:
    waiting = app.tasks[f"shop.tasks.forget_{tidying}"]
    assert waiting.name.startswith("shop.tasks.delete_")


def test_inside_a_worker_too_a_job_is_queued_in_the_orders_transaction(
    make_product: MakeProduct,
) -> None:
    """In a worker the app's own connector uses another connection."""
    order = place((make_product(), 1))
    worker_connector = app.connector.get_worker_connector()  # type: ignore[attr-defined]
    with (
        app.replace_connector(worker_connector),
        pytest.raises(ZeroDivisionError),
        transaction.atomic(),
    ):
        jobs.queue("send_order_paid", order_id=order.pk)
        raise ZeroDivisionError
    assert queued("send_order_paid") == []


def test_a_worker_settles_refunds_and_takes_back(make_product: MakeProduct) -> None:
    product = make_product(10)
    lost = place((product, 2), buyer="A")
    at_bank(lost, Choice.LOSE_ANSWER)
    refunded = place((product, 3), buyer="B")
    at_bank(refunded, APPROVE)
    orders.settle(refunded.pk)
    orders.refund(refunded.pk, restock=True)
    left = place((product, 1), buyer="C")
    lapse_all(left, by_minutes=6)
    lapse(reserve(product, 1, buyer="D"))
    delete_jobs("send_demo_bank_event")  # its address leads nowhere here
    for task in ("settle_pending", "expire_lapsed"):
        jobs.queue(task, timestamp=0)
    work()
    assert now(lost).state == Order.State.PAID
    assert Refund.objects.get().state == Refund.State.DONE
    assert charged_at_bank(refunded) == 0
    assert now(left).state == Order.State.CANCELLED
    assert stock_of(product) == 8
    assert not Reservation.objects.held().exists()


def test_jobs_of_a_killed_worker_are_done_by_the_next_one(make_product: MakeProduct) -> None:
    order = place((make_product(10), 2))
    at_bank(order, APPROVE)
    orders.settle(order.pk)
    orders.refund(order.pk, restock=True)
    delete_jobs("send_demo_bank_event")
    jobs.queue("expire_lapsed", timestamp=0)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO procrastinate_workers (last_heartbeat)"
            " VALUES (now() - interval '1 hour') RETURNING id"
        )
        [worker] = cursor.fetchone()
        cursor.execute("UPDATE procrastinate_jobs SET status = 'doing', worker_id = %s", [worker])
    assert Refund.objects.get().state == Refund.State.DUE
    jobs.queue("start_stalled_jobs_again", timestamp=0)
    jobs.queue("expire_lapsed", timestamp=1)
    work()
    assert Refund.objects.get().state == Refund.State.DONE
    # Two jobs of a periodic task can't wait at once: the killed one gave way to the next.
    assert left_over() == ["shop.tasks.expire_lapsed"]


def test_finished_jobs_are_removed_after_three_days_and_failed_ones_are_kept() -> None:
    for number in range(4):
        jobs.queue("expire_lapsed", timestamp=number)
        ProcrastinateJob.objects.filter(status="todo").update(queueing_lock=None)
    old, young, failed, waiting = ProcrastinateJob.objects.order_by("pk").values_list(
        "pk", flat=True
    )
    with connection.cursor() as cursor:
        for pk, status, hours in (
            (old, "succeeded", 73),
            (young, "succeeded", 71),
            (failed, "failed", 73),
        ):
            cursor.execute("UPDATE procrastinate_jobs SET status = 'doing' WHERE id = %s", [pk])
            cursor.execute(
                "UPDATE procrastinate_jobs SET status = %s::procrastinate_job_status WHERE id = %s",
                [status, pk],
            )
            cursor.execute(
                "UPDATE procrastinate_events SET at = now() - make_interval(hours => %s)"
                " WHERE job_id = %s",
                [hours, pk],
            )
    jobs.queue("delete_old_jobs", timestamp=0)
    work()
    left = set(ProcrastinateJob.objects.values_list("pk", flat=True))
    assert {young, failed, waiting} <= left
    assert old not in left


def test_settling_goes_on_if_one_order_fails(
    make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = place((make_product(), 1), buyer="A"), place((make_product(), 1), buyer="B")
    for order in (bad, good):
        at_bank(order, Choice.LOSE_ANSWER)
    settle = orders.settle

    def fail_for_one(order_id: int) -> Order:
        if order_id == bad.pk:
            raise ZeroDivisionError
        return settle(order_id)

    with monkeypatch.context() as patched:
        patched.setattr(orders, "settle", fail_for_one)
        fail_for_one.__name__ = "settle"
        tasks.settle_pending(timestamp=0)
    assert (now(bad).state, now(good).state) == (Order.State.PENDING, Order.State.PAID)
    assert "it will be tried again" in caplog.text


def test_an_abandoned_order_is_closed_by_the_same_round_that_sees_the_payment_end(
    make_product: MakeProduct,
) -> None:
    order = place((make_product(1), 1))
    go_to_bank(order)
    lapse_all(order, by_minutes=6)
    close_payment_time(order)
    tasks.settle_pending(timestamp=0)
    assert now(order).state == Order.State.CANCELLED


def test_refunds_that_lost_their_job_are_carried_out(make_product: MakeProduct) -> None:
    order = place((make_product(1), 1))
    at_bank(order, APPROVE)
    orders.settle(order.pk)
    orders.cancel(order.pk)
    delete_jobs("carry_out_refund")
    tasks.carry_out_refunds(timestamp=0)
    assert Refund.objects.get().state == Refund.State.DONE


@pytest.mark.parametrize(
    ("seconds", "starts"), [(6, [0, 60, 120, 180, 240]), (20, [0, 240])], ids=["short", "long"]
)
def test_the_check_of_the_law_takes_a_tenth_of_the_time_at_most(
    monkeypatch: pytest.MonkeyPatch, seconds: int, starts: list[int]
) -> None:
    clock = {"now": 0}
    monkeypatch.setattr(time, "monotonic", lambda: clock["now"])
    paced, began = tasks.Paced(), []

    def check() -> None:
        began.append(clock["now"])
        clock["now"] += seconds

    for minute in range(5):
        clock["now"] = 60 * minute
        paced.run(check)
    assert began == starts


@pytest.mark.breaks_law
def test_a_broken_law_is_logged(
    make_product: MakeProduct, caplog: pytest.LogCaptureFixture
) -> None:
    product = make_product(1)
    tasks.check_law(timestamp=0)
    assert caplog.text == ""
    Product.objects.update(stock=3)
    with caplog.at_level(logging.ERROR):
        tasks.check_law(timestamp=0)
    assert f"{product.sku}: received 1, available 3" in caplog.text
