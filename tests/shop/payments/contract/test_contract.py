"""Every provider, in every situation, in every way: the money and the goods agree at the end.

An ordinary run takes each provider through each situation once, in one of three ways, and breaks
off a few situations; all else is thorough (``python -m tests.tools.contract_table`` runs it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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

ALWAYS_BROKEN_OFF = ["StartLost", "Returned", "RefundOnce"]  # each takes many goes

NewWorld = Callable[[], World]


@pytest.fixture
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


@pytest.fixture
def situation(request: pytest.FixtureRequest) -> Situation:
    return ALL[request.param]()


def each_provider(of_situations: Sequence[str], turn: int) -> pytest.MarkDecorator:
    """Run a test with each provider in each situation; an ordinary run has one provider of each.

    The providers take turns: with three turns, each provider is in each situation.
    """
    return pytest.mark.parametrize(
        ("new_world", "situation"),
        [
            pytest.param(
                provider, situation, id=f"{provider}-{situation}", marks=_unless(is_ordinary)
            )
            for number, provider in enumerate(BENCHES)
            for situation in ALL
            for is_ordinary in [
                situation in of_situations
                and (list(ALL).index(situation) + number + turn) % len(BENCHES) == 0
            ]
        ],
        indirect=True,
    )


def _unless(is_ordinary: bool) -> list[pytest.MarkDecorator]:
    return [] if is_ordinary else [pytest.mark.thorough]


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


@each_provider(list(ALL), turn=0)
def test_plainly(new_world: NewWorld, situation: Situation) -> None:
    world = begin(new_world, situation)
    situation.act(world)
    finish(world, situation)


@each_provider(list(ALL), turn=1)
def test_repeated(new_world: NewWorld, situation: Situation) -> None:
    world = begin(new_world, situation)
    situation.act(world)
    finish(world, situation, once_more=True)


@pytest.mark.parametrize("way", [ways.lose_answer, ways.break_down])
@each_provider(ALWAYS_BROKEN_OFF, turn=1)
def test_each_answer_lost(
    request: pytest.FixtureRequest,
    new_world: NewWorld,
    situation: Situation,
    way: Callable[[ways.Act, int], bool],
) -> None:
    times = go_through_all(new_world, situation, way)
    request.node.user_properties.append(("times", times))


@each_provider(ALWAYS_BROKEN_OFF, turn=0)
def test_killed_at_each_point(
    request: pytest.FixtureRequest, new_world: NewWorld, situation: Situation
) -> None:
    times = go_through_all(new_world, situation, ways.kill)
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


@each_provider(list(ALL), turn=2)
def test_twice_at_once(new_world: NewWorld, situation: Situation) -> None:
    world = begin(new_world, situation)
    ways.twice_at_once(lambda: situation.act(world))
    finish(world, situation)
