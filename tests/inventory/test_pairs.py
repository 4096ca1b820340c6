"""Every function that moves units races every other, and itself, in every order.

All want the same units: one is available, two are in a lapsed hold (which may be confirmed,
released, shrunk, or taken back), and two are sold. In every order, the law holds, and no caller
gets an error but an InventoryError. The end state is one that the two calls could also reach one
after the other.

In each run there is at most one preemption. ``pytest --thorough`` tries all orders, and reserving
by every safe strategy.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import pytest

from inventory import monitor, reservations, stock, strategies
from inventory.exceptions import InventoryError
from inventory.models import Product, Reservation
from inventory.races import RaceFound, Run, explore
from inventory.reservations import (
    confirm,
    confirm_or_retake,
    confirm_together,
    expire_lapsed,
    prolong,
    release,
    reserve,
    return_units,
    shrink,
)
from tests.concurrency import lapse
from tests.conftest import MakeProduct
from tests.kept_rows import keep_rows, put_rows_back

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

TABLES = [  # whose rows are put back
    "inventory_stockalert",
    "inventory_stockmovement",
    "inventory_reservation",
    "inventory_product",
]
HOUR = timedelta(hours=1)


@dataclass
class Shelf:
    """The product and its reservations before each schedule."""

    product: Product
    hold: Reservation
    sale: Reservation


Action = Callable[[Shelf, str], object]
ACTIONS: dict[str, Action] = {
    "reserve": lambda shelf, buyer: reserve(shelf.product, 2, buyer=buyer),
    "confirm": lambda shelf, _: confirm(shelf.hold.pk),
    "confirm together": lambda shelf, _: confirm_together([shelf.hold.pk, shelf.sale.pk]),
    "retake": lambda shelf, _: confirm_or_retake([shelf.hold.pk]),
    "prolong": lambda shelf, _: prolong([shelf.hold.pk], hold_for=HOUR, at_most=HOUR),
    "release": lambda shelf, _: release(shelf.hold.pk),
    "shrink": lambda shelf, _: shrink(shelf.hold.pk, 1, seen=2),
    "expire": lambda shelf, _: expire_lapsed(shelf.product.pk),
    "return": lambda shelf, _: return_units(shelf.sale.pk, 1, seen=0),
    "receive": lambda shelf, _: stock.receive(shelf.product, 1),
    "remove": lambda shelf, _: stock.remove(shelf.product, 2, reason=stock.Reason.DAMAGE),
    "repair": lambda shelf, _: stock.repair(shelf.product),
}


def reserve_by(slug: str) -> Action:
    return lambda shelf, buyer: reserve(
        shelf.product, 2, buyer=buyer, strategy=strategies.create(slug)
    )


BY_STRATEGY = {
    f"reserve by {strategy.slug}": reserve_by(strategy.slug)
    for strategy in strategies.all_strategies()
    if strategy.is_safe
}
PAIRS = list(itertools.combinations_with_replacement(ACTIONS, 2))
PAIRS_BY_STRATEGY = [
    (one, other) for one in BY_STRATEGY for other in [*ACTIONS, one] if other != "reserve"
]


def look_at(
    make_product: MakeProduct, one: str, other: str, *, max_preemptions: int | None
) -> None:
    # With combined, two could meet in this process before any statement.
    product = make_product(5, backstop=False, strategy="single_statement")
    shelf = Shelf(
        product,
        hold=lapse(reserve(product, 2, buyer="gone")),
        sale=confirm(reserve(product, 2, buyer="customer").pk),
    )
    keep_rows(TABLES)
    actions = {**ACTIONS, **BY_STRATEGY}

    def holds(run: Run) -> None:
        state = monitor.state_of(product.pk)
        assert state.keeps_law, state.as_equation()
        for error in run.raised.values():
            assert isinstance(error, InventoryError), f"{type(error).__name__}: {error}"

    result = explore(
        [lambda: actions[one](shelf, "A"), lambda: actions[other](shelf, "B")],
        setup=lambda: put_rows_back(TABLES),
        invariant=holds,
        describe=lambda: monitor.state_of(product.pk).as_equation(),
        max_preemptions=max_preemptions,
        budget=20_000,
    )
    result.assert_holds()
    result.assert_serializable()
    assert result.complete_up_to == max_preemptions or result.exhaustive


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_two_at_once(make_product: MakeProduct, is_thorough: bool, one: str, other: str) -> None:
    look_at(make_product, one, other, max_preemptions=None if is_thorough else 1)


@pytest.mark.parametrize("action", ["shrink", "return"])
def test_without_the_products_lock_a_repeated_request_would_count_twice(
    make_product: MakeProduct, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    monkeypatch.setattr(reservations, "lock_product", lambda pk: Product.objects.get(pk=pk))
    with pytest.raises(RaceFound):
        look_at(make_product, action, action, max_preemptions=1)


@pytest.mark.thorough
@pytest.mark.parametrize(("one", "other"), PAIRS_BY_STRATEGY)
def test_any_strategy_and_another(make_product: MakeProduct, one: str, other: str) -> None:
    look_at(make_product, one, other, max_preemptions=2)
