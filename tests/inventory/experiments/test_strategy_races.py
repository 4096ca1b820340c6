"""Every strategy, in every order of the statements of two buyers after the last unit.

The explorer must also find that each safe strategy oversells when its guard is taken out.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import pytest
from django.db.models import F
from django.utils.module_loading import import_string

from inventory import conf, reservations, strategies
from inventory.database import atomic
from inventory.experiments.strategy_races import check_sale, race
from inventory.holds import Request, record_hold
from inventory.models import Product, Reservation, StockAlert
from inventory.races import explore, story
from inventory.reservations import reserve
from inventory.snapshots import refusal
from inventory.strategies import Strategy
from inventory.strategies import combined as combined_module
from inventory.strategies import single_statement as single_statement_module
from inventory.strategies.base import Pay
from inventory.strategies.combined import Combined
from inventory.strategies.conditional_update import ConditionalUpdate
from inventory.strategies.mutex import Mutex
from inventory.strategies.select_for_update import SelectForUpdate
from inventory.strategies.serializable import Serializable
from inventory.strategies.single_statement import SingleStatement
from inventory.strategies.versioned import Versioned
from tests.concurrency import lapse
from tests.conftest import MakeProduct
from tests.race_bounds import Bounds

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.breaks_law,
    pytest.mark.slow,
]

SAFE = [s.slug for s in strategies.all_strategies() if s.is_safe]
CLAIMS = {
    "naive": story.LOST_UPDATE,
    "unguarded_decrement": story.STALE_CHECK,
    "process_mutex": story.LOST_UPDATE,
}


@pytest.mark.parametrize("slug", SAFE)
def test_two_buyers_of_the_last_unit_in_every_order(slug: str) -> None:
    found = race(slug)
    found.result.assert_holds()
    found.result.assert_serializable()
    assert found.result.exhaustive
    assert not found.breaks_promise


@pytest.mark.thorough
@pytest.mark.parametrize("slug", SAFE)
def test_three_buyers_with_two_preemptions(slug: str) -> None:
    found = race(slug, buyers=3, units=2, max_preemptions=2)
    found.result.assert_holds()
    if found.result.complete_up_to is not None:
        assert found.result.complete_up_to == 2


@pytest.mark.parametrize("slug", SAFE)
def test_three_buyers(slug: str) -> None:
    """All orders without preemption, and the most promising ones with one."""
    bounds = Bounds(max_preemptions=1, budget=15, samples=0)
    race(slug, buyers=3, units=2, **bounds).result.assert_holds()


def test_all_unsafe_strategies_of_ours_are_shown() -> None:
    ours = [import_string(path) for path in conf.STRATEGIES]
    assert set(CLAIMS) == {each.slug for each in ours if not each.is_safe}


@pytest.mark.parametrize("slug", CLAIMS)
def test_an_unsafe_strategy_shows_the_anomaly_that_it_claims(slug: str) -> None:
    found = race(slug, max_preemptions=1)
    shortest = found.result.shortest
    assert shortest is not None
    assert shortest.preemptions == 1
    assert story.anomalies(shortest) == [CLAIMS[slug]]
    assert found.anomalies == [CLAIMS[slug]]
    assert not found.breaks_promise


def test_a_lost_update_hides_behind_a_stock_that_is_never_negative() -> None:
    shortest = race("naive", max_preemptions=1).result.shortest
    assert shortest is not None
    assert shortest.before == "available 1 + held 0 + sold 0 = received 1"
    assert shortest.after == ("available 0 + held 2 + sold 0 ≠ received 1: oversold 1, drift +1")


# With the guard taken out


class Unconditional(ConditionalUpdate):
    """Its UPDATE lacks ``stock__gte``."""

    def _take(self, request: Request, pay: Pay) -> Reservation:
        with atomic():
            product = Product.objects.get(pk=request.product_id)
            if product.stock >= request.quantity:
                Product.objects.filter(pk=product.pk).update(stock=F("stock") - request.quantity)
                return record_hold(request)
        raise refusal(request)


class Unlocked(SelectForUpdate):
    """It reads without a lock (``guards_out``)."""


class Unversioned(Versioned):
    """Its write doesn't check the version."""

    def _take(self, request: Request, pay: Pay) -> Reservation:
        product = Product.objects.get(pk=request.product_id)
        if product.stock < request.quantity:
            raise refusal(request)
        with atomic():
            Product.objects.filter(pk=product.pk).update(
                stock=product.stock - request.quantity, version=product.version + 1
            )
            return record_hold(request)


class Queueless(Mutex):
    """It lacks the advisory lock (``guards_out``)."""


class ReadCommitted(Serializable):
    """It lacks the isolation level (``guards_out``)."""


class Unguarded(SingleStatement):
    """Its statement lacks ``stock >= …`` (``guards_out``), and comes after a check."""

    def _take(self, request: Request, pay: Pay) -> Reservation:
        if Product.objects.get(pk=request.product_id).stock < request.quantity:
            raise refusal(request)
        return super()._take(request, pay)


class Uncombined(Combined):
    """Its batch statement lacks ``stock >= …`` (``guards_out``), and comes after a check."""

    def _attempt(self, request: Request, pay: Pay) -> Reservation:
        if Product.objects.get(pk=request.product_id).stock < request.quantity:
            raise refusal(request)
        return super()._attempt(request, pay)


@pytest.fixture
def guards_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from inventory.strategies import mutex, select_for_update, serializable

    def plain_read(product_id: int) -> Product:
        return Product.objects.get(pk=product_id)

    class WithoutLevel:
        def cursor(self) -> nullcontext[WithoutLevel]:
            return nullcontext(self)

        def execute(self, sql: str) -> None:
            assert "SERIALIZABLE" in sql

    monkeypatch.setattr(select_for_update, "lock_product", plain_read)
    monkeypatch.setattr(mutex, "queue_product", lambda product_id: None)
    monkeypatch.setattr(serializable, "connection", WithoutLevel)
    guarded = single_statement_module.TAKE
    unguarded = guarded.replace("AND stock >= %(quantity)s", "")
    assert unguarded != guarded
    monkeypatch.setattr(single_statement_module, "TAKE", unguarded)
    for_all = combined_module.TAKE_ALL.replace("AND stock >= %(total)s", "")
    assert for_all != combined_module.TAKE_ALL
    monkeypatch.setattr(combined_module, "TAKE_ALL", for_all)


MUTANTS = [Unconditional, Unlocked, Unversioned, Queueless, ReadCommitted, Unguarded, Uncombined]


def test_every_safe_strategy_of_ours_has_a_mutant() -> None:
    ours = [import_string(path) for path in conf.STRATEGIES]
    without = {each.slug for each in ours if each.is_safe} - {each.slug for each in MUTANTS}
    assert not without, "Add their subclasses without a guard to MUTANTS."


@pytest.mark.usefixtures("guards_out")
@pytest.mark.parametrize("mutant", MUTANTS)
def test_without_its_guard_a_safe_strategy_oversells(mutant: Callable[[], Strategy]) -> None:
    found = race(mutant, max_preemptions=1)
    assert found.breaks_promise
    shortest = found.result.shortest
    assert shortest is not None
    assert "oversold 1" in str(shortest.broken)
    assert story.anomalies(shortest)[0] in (story.LOST_UPDATE, story.STALE_CHECK)


# Taking lapsed holds back, which every buyer does, whatever the strategy


@pytest.fixture
def product_with_lapsed_hold(make_product: MakeProduct) -> tuple[Product, Callable[[], None]]:
    """A product whose only unit is in a lapsed hold, and the function that restores this state."""
    # With combined the two would meet in this process, before any statement.
    product = make_product(1, backstop=False, strategy="single_statement")

    def setup() -> None:
        StockAlert.objects.all().delete()
        Reservation.objects.all().delete()
        Product.objects.filter(pk=product.pk).update(stock=1, version=1)
        lapse(reserve(product, 1, buyer="gone"))

    return product, setup


def test_two_buyers_find_one_lapsed_hold(
    product_with_lapsed_hold: tuple[Product, Callable[[], None]], is_thorough: bool
) -> None:
    product, setup = product_with_lapsed_hold
    result = explore(
        {buyer: partial(reserve, product, 1, buyer=buyer) for buyer in "AB"},
        setup=setup,
        invariant=partial(check_sale, product, 2, 1, None),
        max_preemptions=None if is_thorough else 1,
    )
    result.assert_holds()
    result.assert_serializable()


@pytest.mark.parametrize("has_lock", [True, False])
def test_a_buyer_and_the_sweep_find_one_lapsed_hold(
    product_with_lapsed_hold: tuple[Product, Callable[[], None]],
    monkeypatch: pytest.MonkeyPatch,
    is_thorough: bool,
    has_lock: bool,
) -> None:
    """Both lock the product before the hold; else each would wait for the other for ever."""
    product, setup = product_with_lapsed_hold
    if not has_lock:
        monkeypatch.setattr(
            reservations, "lock_product_to_take", lambda pk: Product.objects.get(pk=pk)
        )
    result = explore(
        {
            "buyer": lambda: reserve(product, 1, buyer="A"),
            "sweep": lambda: reservations.expire_lapsed(product.pk),
        },
        setup=setup,
        invariant=partial(check_sale, product, 1, 1, None),
        max_preemptions=None if has_lock and is_thorough else 1,
    )
    if has_lock:
        result.assert_holds()
        assert result.exhaustive or not is_thorough
    else:
        assert result.deadlocks > 0
        assert result.broken
