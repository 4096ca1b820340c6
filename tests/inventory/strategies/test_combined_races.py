"""Batches of ``combined`` race each other and other functions, in every order; leaders are killed.

Each session serves its own batch, as the leader of a process does.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

import pytest
from django.db import connection

from inventory import monitor, reservations
from inventory.exceptions import InsufficientStock
from inventory.models import Product, Reservation, StockAlert
from inventory.races import Result, Run, explore
from inventory.reservations import reserve
from inventory.strategies import combined
from tests.command_line import ROOT, environment
from tests.conftest import MakeProduct
from tests.inventory.strategies.test_combined import answers, ask

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

REFUSED = "refused"


def batch(product: Product, *buyers: str, key: str | None = None) -> list[str]:
    """Serve a unit to each of these buyers in one batch; return reservation ids, or REFUSED."""
    asked = [ask(product, buyer=buyer, key=key and f"{key} {buyer}") for buyer in buyers]
    return [str(a.pk) if isinstance(a, Reservation) else REFUSED for a in answers(*asked)]


def race(
    product: Product,
    sessions: Mapping[str, Callable[[], object]],
    *,
    units: int,
    held: int,
    max_preemptions: int | None = None,
) -> Result:
    """Try all orders of ``sessions`` from ``units`` in stock; each must end with ``held`` units."""

    def setup() -> None:
        StockAlert.objects.all().delete()
        Reservation.objects.all().delete()
        Product.objects.filter(pk=product.pk).update(stock=units, units_received=units, version=1)

    def is_right(run: Run) -> None:
        state = monitor.state_of(product.pk)
        assert (state.drift, state.oversold) == (0, 0), state
        assert state.held == held
        assert not run.raised

    return explore(
        sessions,
        setup=setup,
        invariant=is_right,
        serial=False,  # who is served differs with the order, not how many
        max_preemptions=max_preemptions,
    )


def assert_all_orders_are_right(result: Result) -> None:
    result.assert_holds()
    assert result.exhaustive
    assert len(result.runs) > 1


@pytest.fixture
def product(make_product: MakeProduct) -> Product:
    """A product without the backstop, which could hide a missing guard."""
    return make_product(3, backstop=False)


def test_batches_of_two_and_three_after_three_units(product: Product) -> None:
    two, three = partial(batch, product, *"AB"), partial(batch, product, *"CDE")
    assert_all_orders_are_right(race(product, {"two": two, "three": three}, units=3, held=3))


def test_a_batch_and_one_buyer_of_another_strategy(product: Product) -> None:
    def alone() -> None:
        for _ in range(2):
            with suppress(InsufficientStock):
                reserve(product, 1, buyer="Z", strategy="conditional_update")

    two = partial(batch, product, *"AB")
    sessions: dict[str, Callable[[], object]] = {"batch": two, "alone": alone}
    found = race(product, sessions, units=3, held=3)
    assert_all_orders_are_right(found)


def test_a_batch_with_a_buyer_whose_request_is_in_another_process_too(product: Product) -> None:
    """The same key is sent twice: the second request gets the reservation of the first."""
    same = {name: partial(batch, product, *"AB", key="click") for name in ("once", "twice")}
    found = race(product, same, units=3, held=2)
    assert_all_orders_are_right(found)


def test_the_limit_of_a_buyer_who_is_in_two_batches(make_product: MakeProduct) -> None:
    product = make_product(9, backstop=False, max_per_buyer=1)
    sessions = {"AB": partial(batch, product, *"AB"), "AC": partial(batch, product, *"AC")}
    found = race(product, sessions, units=9, held=3, max_preemptions=2)
    found.assert_holds()


def test_a_batch_and_units_that_come_back(make_product: MakeProduct, is_thorough: bool) -> None:
    """Two buyers want one unit. Both are served if another unit comes back in time."""
    product = make_product(2, backstop=False)
    holds: list[Reservation] = []

    def hold() -> None:
        holds[:] = [reserve(product, 1, buyer="gone", strategy="single_statement")]

    def is_right(run: Run) -> None:
        state = monitor.state_of(product.pk)
        assert (state.drift, state.oversold) == (0, 0)
        assert state.held == served_of(run)

    def setup() -> None:
        StockAlert.objects.all().delete()
        Reservation.objects.all().delete()
        Product.objects.filter(pk=product.pk).update(stock=2, units_received=2, version=1)
        hold()

    sessions: dict[str, Callable[[], object]] = {
        "batch": partial(batch, product, *"AB"),
        "release": lambda: reservations.release(holds[0].pk),
    }
    found = explore(
        sessions,
        setup=setup,
        invariant=is_right,
        serial=False,
        max_preemptions=None if is_thorough else 1,
    )
    found.assert_holds()
    assert found.exhaustive or not is_thorough
    assert {served_of(run) for run in found.runs} == {1, 2}


def served_of(run: Run) -> int:
    """The number of served buyers of the session “batch”."""
    answers = run.returned["batch"]
    assert isinstance(answers, list)
    return len(answers) - answers.count(REFUSED)


@pytest.mark.breaks_law
def test_without_its_condition_a_batch_oversells(
    product: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant = combined.TAKE_ALL.replace("AND stock >= %(total)s", "")
    assert mutant != combined.TAKE_ALL
    monkeypatch.setattr(combined, "TAKE_ALL", mutant)
    two, three = partial(batch, product, *"AB"), partial(batch, product, *"CDE")
    assert race(product, {"two": two, "three": three}, units=3, held=3).broken


# Killed

LEADER = """
import os, signal, sys
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
import django
django.setup()
from django.db import connection
from inventory.models import Product
from tests.inventory.strategies.test_combined import answers, ask

product_id, dies_at = int(sys.argv[1]), int(sys.argv[2])
steps = 0

def step():
    global steps
    if steps == dies_at:
        os.kill(os.getpid(), signal.SIGKILL)
    steps += 1

def before_and_after(execute, *arguments):
    step()
    result = execute(*arguments)
    step()
    return result

product = Product.objects.get(pk=product_id)
with connection.execute_wrapper(before_and_after):
    answers(*[ask(product, buyer=buyer, key=f"click {buyer}") for buyer in "ABC"])
step()
"""


@pytest.mark.parametrize(("limit", "steps"), [(None, 2), (1, 6)])
def test_a_leader_killed_at_any_step_has_served_all_or_nobody(
    make_product: MakeProduct, limit: int | None, steps: int
) -> None:
    """Killed before or after each statement. A second request with the same key gets units once."""
    product = make_product(3, max_per_buyer=limit)
    served = []
    for dies_at in range(steps + 1):
        Reservation.objects.all().delete()
        Product.objects.filter(pk=product.pk).update(stock=3)
        command = [sys.executable, "-c", LEADER, str(product.pk), str(dies_at)]
        leader = subprocess.run(command, env=environment(), cwd=ROOT, timeout=60)
        assert leader.returncode == -signal.SIGKILL
        wait_until_nobody_else_is_connected()
        state = monitor.state_of(product.pk)
        assert state.keeps_law
        served.append(state.held)
        again = [
            reserve(product, 1, buyer=buyer, idempotency_key=f"click {buyer}") for buyer in "ABC"
        ]
        assert len({reservation.pk for reservation in again}) == 3
        assert monitor.state_of(product.pk).held == 3
    assert set(served) == {0, 3}
    assert served == sorted(served)


def wait_until_nobody_else_is_connected() -> None:
    """By then, PostgreSQL has committed or rolled back the killed process's statement."""
    deadline = time.monotonic() + 30
    with connection.cursor() as cursor:
        while time.monotonic() < deadline:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
            if cursor.fetchone() == (0,):
                return
            time.sleep(0.01)
    raise AssertionError("the killed process is still connected")
