"""Flash sales in several processes: unsafe strategies oversell, and safe ones never do."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from types import SimpleNamespace

import pytest

from inventory import monitor, strategies
from inventory.experiments.flash_sale.buyers import FlashSaleError
from inventory.experiments.flash_sale.report import breaks_promise
from inventory.experiments.flash_sale.sale import Parameters, run
from inventory.experiments.models import FlashSale, FlashSaleResult
from inventory.experiments.parameters import InvalidParameters
from inventory.models import Product, Reservation
from inventory.strategies import Strategy
from tests.conftest import MakeProduct

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

SAFE = tuple(each.slug for each in strategies.all_strategies() if each.is_safe)
UNLIKE = ("mutex", "combined")  # one holds a lock when it is killed, one answers for others, too


def run_sale(**parameters: object) -> dict[str, FlashSaleResult]:
    """Run a sale of one round; return its results by strategy."""
    sale = run(Parameters(**parameters))  # type: ignore[arg-type]
    return {result.strategy: result for result in sale.results.all()}


def test_every_safe_strategy_sells_exactly_the_stock() -> None:
    results = run_sale(strategies=SAFE, stock=20, buyers=50, processes=3, threads=4, payment_ms=2)
    assert set(results) == set(SAFE)
    for result in results.values():
        assert (result.sold, result.refused, result.failed) == (20, 30, 0), result
        assert (result.stock_left, result.oversold, result.drift) == (0, 0, 0)
        assert result.verdict == "exact"
        assert result.falsely_refused == result.unrecorded == 0


def test_buyers_of_several_units_each() -> None:
    results = run_sale(strategies=SAFE, stock=30, buyers=30, quantity=(1, 4), payment_ms=0)
    for result in results.values():
        assert result.verdict == "exact", result
        assert result.sold + result.stock_left == 30
        assert result.stock_left < 4  # a buyer of one unit, at the latest, was served with it
        assert Reservation.objects.filter(product=result.product).units() == result.sold


def test_naive_loses_updates() -> None:
    """All fifteen buyers read 10 and write 9: the stock is never below zero, yet oversold."""
    result = run_sale(strategies=["naive"])["naive"]
    assert (result.sold, result.refused, result.failed) == (15, 0, 0)
    assert result.oversold == 5
    assert result.stock_left >= 0
    assert result.drift == result.stock_left + 15 - 10
    assert result.drift > 5
    assert result.verdict == "sold 15 of 10: 5 buyers will be disappointed"


def test_unguarded_decrement_counts_right_and_goes_below_zero() -> None:
    result = run_sale(strategies=["unguarded_decrement"])["unguarded_decrement"]
    assert (result.sold, result.stock_left, result.oversold, result.drift) == (15, -5, 5, 0)


def test_the_backstop_turns_an_unguarded_decrement_into_a_refusal() -> None:
    result = run_sale(strategies=["unguarded_decrement"], backstop=True)["unguarded_decrement"]
    assert (result.sold, result.refused, result.failed) == (10, 5, 0)
    assert result.verdict == "exact"


@pytest.mark.parametrize(("processes", "is_exact"), [(1, True), (2, False)])
def test_a_mutex_in_a_process_is_right_in_one_process_only(processes: int, is_exact: bool) -> None:
    slug = "process_mutex"
    result = run_sale(strategies=[slug], processes=processes, payment_ms=10)[slug]
    assert (result.verdict == "exact") is is_exact
    assert (result.oversold == 0) is is_exact
    assert not breaks_promise(result)  # it doesn't call itself safe


@pytest.mark.parametrize(
    "slug",
    [pytest.param(slug, marks=[] if slug in UNLIKE else pytest.mark.thorough) for slug in SAFE],
)
def test_a_buyer_process_is_killed_in_the_middle_of_a_sale(slug: str) -> None:
    killed: list[int] = []

    def kill_one(strategy: Strategy, round_: int, served: int) -> None:
        if not killed:
            [victim, *_] = multiprocessing.active_children()
            assert victim.pid is not None
            os.kill(victim.pid, signal.SIGKILL)
            killed.append(victim.pid)

    sale = run(
        Parameters(strategies=[slug], stock=60, buyers=120, threads=4, payment_ms=10, rounds=2),
        progress=kill_one,
    )
    with_a_kill, after_it = sale.results.order_by("round")
    assert with_a_kill.failed > 0
    assert "killed by signal 9" in with_a_kill.verdict
    assert (with_a_kill.oversold, with_a_kill.drift) == (0, 0)
    assert with_a_kill.falsely_refused == with_a_kill.unrecorded == 0
    assert monitor.check(exhibits=True) == []
    # Another process has taken its place.
    assert after_it.verdict == "exact"
    assert after_it.sold == 60


def test_a_sale_leaves_the_shops_own_stock_alone_and_no_process_behind(
    make_product: MakeProduct,
) -> None:
    mine = make_product(10)
    results = run_sale(strategies=["naive"], payment_ms=5)
    mine.refresh_from_db()
    assert mine.stock == 10
    assert results["naive"].product.is_exhibit
    assert list(Product.objects.for_sale()) == [mine]
    assert monitor.check() == []
    assert multiprocessing.active_children() == []


def test_what_was_asked_for_is_on_record() -> None:
    sale = run(
        Parameters(strategies=["mutex", "mutex"], buyers=4, threads=1, payment_ms=1, rounds=2)
    )
    sale.refresh_from_db()
    assert (sale.stock, sale.buyers, sale.processes, sale.threads) == (10, 4, 2, 1)
    assert (sale.payment_ms, sale.rounds, sale.backstop) == (1, 2, False)
    assert sale.finished_at is not None
    rows = sale.results.order_by("round").values_list("strategy", "round", "sold")
    assert list(rows) == [("mutex", 1, 4), ("mutex", 2, 4)]


def test_as_many_threads_as_buyers_unless_the_server_has_too_few_connections() -> None:
    assert Parameters(buyers=15, processes=2).threads_per_process() == 8
    many = Parameters(buyers=100_000, processes=2).threads_per_process()
    assert 10 <= many < 100  # of the server's 200 connections, others have some
    with pytest.raises(InvalidParameters, match=r"2 processes × 500 threads need 1000"):
        Parameters(buyers=100_000, processes=2, threads=500).threads_per_process()


def test_buyers_that_cannot_connect_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = SimpleNamespace(settings_dict={"NAME": "no_such_database"})
    monkeypatch.setattr("inventory.experiments.load.connection", lambda: elsewhere)
    started = time.monotonic()
    with pytest.raises(FlashSaleError, match=r"can't connect: .*no_such_database"):
        run(Parameters(strategies=["mutex"]))
    assert time.monotonic() - started < 60  # the error comes at once, not after a time-out
    assert FlashSale.objects.get().finished_at is None
    assert multiprocessing.active_children() == []
