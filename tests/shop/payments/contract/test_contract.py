"""Every provider, in every situation, in every way: the money and the goods agree at the end.

With CONTRACT_THOROUGH=1 (``python -m tests.tools.contract_table`` sets it) answers are lost and the
shop is killed in every situation; without it, in some.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from django.conf import LazySettings

from tests import emptying
from tests.conftest import MakeProduct
from tests.shop.payments.contract import ways
from tests.shop.payments.contract.acme_bench import AcmeBench
from tests.shop.payments.contract.bench import Bench
from tests.shop.payments.contract.demo_bench import DemoBench
from tests.shop.payments.contract.situations import ALL, Situation
from tests.shop.payments.contract.stripe_bench import StripeBench
from tests.shop.payments.contract.world import PRICE, SHIPPING, World

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

BENCHES: dict[str, type[Bench]] = {
    "demo": DemoBench,
    "stripe": StripeBench,
    "acme": AcmeBench,
}

THOROUGH = bool(os.environ.get("CONTRACT_THOROUGH"))
ALWAYS_BROKEN_OFF = {
    "StartLost",
    "Returned",
    "LateGoodsGone",
    "RefundOnce",
    "RefundFailsLater",
    "DashboardAfter",
    "Disputed",
}

NewWorld = Callable[[], World]


@pytest.fixture(params=BENCHES)
def new_world(
    request: pytest.FixtureRequest, settings: LazySettings, make_product: MakeProduct
) -> Iterator[NewWorld]:
    """A function that opens a shop and a provider, both without a past."""
    settings.SHIPPING_COST = SHIPPING
    settings.MANAGERS = []
    settings.PAGES_PER_ADDRESS = settings.POSTS_PER_ADDRESS = None
    opened: list[Bench] = []

    def new() -> World:
        if opened:
            opened.pop().close()
            emptying.empty_tables()
        bench = BENCHES[request.param]()
        opened.append(bench)
        bench.open(settings)
        return World(bench, make_product(5, price=PRICE))

    yield new
    for bench in opened:
        bench.close()


@pytest.fixture(params=ALL)
def situation(request: pytest.FixtureRequest) -> Situation:
    return ALL[request.param]()


@pytest.fixture
def broken_off(situation: Situation) -> Situation:
    """A situation in which answers are lost, or the shop is killed: each takes many goes."""
    if not THOROUGH and type(situation).__name__ not in ALWAYS_BROKEN_OFF:
        pytest.skip("set CONTRACT_THOROUGH=1")
    return situation


def begin(new_world: NewWorld, situation: Situation) -> World:
    world = new_world()
    situation.prepare(world)
    return world


def finish(world: World, situation: Situation, *, once_more: bool = False) -> None:
    """All goes on by itself, and then whoever acted acts once more; check the end."""
    world.come_to_rest()
    world.check_always()
    if once_more:
        ways.act_once(lambda: situation.act(world))
        world.come_to_rest()
    situation.go_on(world)
    world.come_to_rest(rounds=2)
    situation.look(world)
    world.check_always()
    other_end = situation.other_end if once_more else None
    world.check_end(situation.end, *filter(None, [other_end]))


def test_plainly(new_world: NewWorld, situation: Situation) -> None:
    world = begin(new_world, situation)
    situation.act(world)
    finish(world, situation)


def test_repeated(new_world: NewWorld, situation: Situation) -> None:
    world = begin(new_world, situation)
    situation.act(world)
    finish(world, situation, once_more=True)


@pytest.mark.parametrize("way", [ways.lose_answer, ways.break_down])
def test_each_answer_lost(
    request: pytest.FixtureRequest,
    new_world: NewWorld,
    broken_off: Situation,
    way: Callable[[ways.Act, int], bool],
) -> None:
    times = go_through_all(new_world, broken_off, way)
    request.node.user_properties.append(("times", times))


def test_killed_at_each_point(
    request: pytest.FixtureRequest, new_world: NewWorld, broken_off: Situation
) -> None:
    times = go_through_all(new_world, broken_off, ways.kill)
    request.node.user_properties.append(("times", times))


def go_through_all(
    new_world: NewWorld, situation: Situation, way: Callable[[ways.Act, int], bool]
) -> int:
    """Act in that way, at each place where it can be met; return the number of places."""
    for number in range(1, ways.MOST_POINTS):
        world = begin(new_world, situation)
        goes_on = way(partial(situation.act, world), number)
        finish(world, situation, once_more=True)
        if not goes_on:
            return number - 1
    raise AssertionError(f"more than {ways.MOST_POINTS} points")


def test_twice_at_once(new_world: NewWorld, situation: Situation) -> None:
    world = begin(new_world, situation)
    ways.twice_at_once(lambda: situation.act(world))
    finish(world, situation)
