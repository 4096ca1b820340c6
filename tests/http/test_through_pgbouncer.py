"""The shop behind a PgBouncer that pools transactions: no program has a session of its own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.db import connection, transaction
from procrastinate.contrib.django.models import ProcrastinateJob

from inventory import monitor, strategies
from inventory.models import Product
from shop.load_tests.serving import ServedShop
from shop.models import Order
from tests.command_line import start
from tests.conftest import MakeProduct
from tests.http.shopper import Shopper
from tests.pgbouncer import SERVER_CONNECTIONS, pgbouncer
from tests.shop.programs import SECONDS, wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

SAFE = [strategy.slug for strategy in strategies.all_strategies() if strategy.is_safe]
UNLIKE = ["mutex", "combined"]  # one locks no row, one answers many buyers at once
UNITS, BUYERS = 6, 24


@pytest.fixture(scope="module")
def through(django_db_setup: None) -> Iterator[str]:
    """A DATABASE_URL that leads through PgBouncer."""
    with pgbouncer() as url:
        yield url


def server_connections() -> int:
    """The number of connections to the test's database, without ours."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'"
        )
        [number] = cursor.fetchone()
    return int(number)


@pytest.mark.parametrize(
    "slugs",
    [
        pytest.param(UNLIKE, id="some strategies"),
        pytest.param(SAFE, id="all safe strategies", marks=pytest.mark.thorough),
    ],
)
def test_a_flash_sale_is_exact(through: str, tmp_path: Path, slugs: list[str]) -> None:
    file = tmp_path / "sale.json"
    numbers = [f"--stock={UNITS}", f"--buyers={BUYERS}", "--payment-ms=5", f"--json={file}"]
    chosen = [f"--strategy={slug}" for slug in slugs]
    sale = start("flash_sale", *numbers, *chosen, database=through)
    _, errors = finish(sale)
    assert sale.returncode == 0, errors

    results = json.loads(file.read_text())["results"]
    assert [each["strategy"] for each in results] == slugs
    for each in results:
        counts = [each[name] for name in ("sold", "refused", "failed", "oversold", "drift")]
        assert counts == [UNITS, BUYERS - UNITS, 0, 0, 0], each
    # PgBouncer keeps its connections. Direct connections of buyers would be closed.
    wait_until(
        lambda: 0 < server_connections() <= SERVER_CONNECTIONS,
        "there are as many connections as PgBouncer may have",
    )


def test_the_pages_sell_each_unit_once_and_a_direct_worker_gets_its_jobs(
    through: str, make_product: MakeProduct
) -> None:
    product = make_product(UNITS)
    web = ServedShop(
        {
            "DATABASE_URL": through,
            "WEB_CONCURRENCY": "2",
            "WEB_THREADS": "8",
            "MOST_UNITS_PER_ADDRESS": str(BUYERS),  # all of them fit, and count
        }
    )
    beside = ServedShop()
    try:
        beside.start_worker()
        web.start_web()
        shoppers = [Shopper(web.url, number) for number in range(BUYERS)]
        with ThreadPoolExecutor(BUYERS) as pool:
            pages = list(pool.map(lambda shopper: shopper.buy(product.slug), shoppers))
        wait_until(
            lambda: not ProcrastinateJob.objects.filter(status__in=("todo", "doing")).exists(),
            "the worker did what the orders asked for",
        )
    finally:
        web.stop()
        beside.stop()

    assert {status for shopper in shoppers for status in shopper.statuses} == {200, 409}
    assert sum("/orders/" in page.url for page in pages) == UNITS
    assert Order.objects.filter(state=Order.State.PAID).count() == UNITS
    state = monitor.state_of(product.pk)
    assert (state.available, state.held, state.sold) == (0, 0, UNITS)
    mails = ProcrastinateJob.objects.filter(task_name="shop.tasks.send_order_paid")
    assert {job.status for job in mails} == {"succeeded"}
    assert mails.count() == UNITS


def test_programs_that_need_a_session_say_so(through: str) -> None:
    races = start("races", "naive", database=through)
    worker = start("procrastinate", "worker", "--one-shot", database=through)
    _, said = finish(races)
    assert races.returncode == 2
    assert said == (
        "CommandError: The connection goes through a pooler. Races need sessions of their own: "
        "connect to PostgreSQL directly.\n"
    )
    _, said = finish(worker)
    assert worker.returncode == 0, said
    assert "The worker's connection goes through a pooler." in said

    direct = start("procrastinate", "worker", "--one-shot")
    _, said = finish(direct)
    assert "pooler" not in said


def finish(program: subprocess.Popen[str]) -> tuple[str, str]:
    """Wait for the program, and return its output. Kill it and fail if it takes too long."""
    try:
        return program.communicate(timeout=SECONDS)
    finally:
        program.kill()


def test_a_buyer_who_waits_for_a_locked_row_gets_an_answer_in_time(
    through: str, make_product: MakeProduct
) -> None:
    """The pooler sets the timeouts, since the shop can't set them through it."""
    product = make_product(1)
    shop = ServedShop({"DATABASE_URL": through})
    try:
        shop.start_web()
        shopper = Shopper(shop.url, 1)
        with transaction.atomic():
            Product.objects.select_for_update().get(pk=product.pk)
            page = shopper.reserve(product.slug)
        assert page.status == 503
        assert shopper.reserve(product.slug).status == 200
    finally:
        shop.stop()


def test_a_pooler_without_timeouts_is_named(through: str) -> None:
    assert "no issues" in "".join(finish(start("check", "--database=default", database=through)))
    with pgbouncer(connect_query="") as without:
        said = "".join(finish(start("check", "--database=default", database=without)))
    assert "no lock_timeout is set" in said
    assert "connect_query" in said
