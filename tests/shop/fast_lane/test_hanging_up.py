"""Clients that leave while they wait. The server ends the task of each, a little later."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from inventory import monitor
from inventory.models import Reservation
from shop.fast_lane import Answer, FastLane
from shop.fast_lane.pages import Pages
from tests.conftest import MakeProduct
from tests.shop.fast_lane.conftest import Browser, LaneRunner, ask_django
from tests.shop.fast_lane.locked import Locked

pytestmark = pytest.mark.django_db(transaction=True)


def assert_nobody_waits(lane: FastLane) -> None:
    assert not lane._forms._lists
    assert not lane._forms._tasks


@pytest.fixture(autouse=True)
def nothing_is_logged(lane_runner: LaneRunner, caplog: pytest.LogCaptureFixture) -> Any:
    """No exception that nobody has retrieved, and no warning."""
    complaints: list[dict[str, Any]] = []
    _, runner = lane_runner
    runner.get_loop().set_exception_handler(lambda loop, context: complaints.append(context))
    yield
    assert complaints == []
    assert caplog.records == []


def test_a_client_leaves_while_its_batch_is_served(
    make_product: MakeProduct, lane_runner: LaneRunner
) -> None:
    """The hold is there for the form sent once more. The other buyers get theirs."""
    lane, runner = lane_runner
    product = make_product(9, strategy="combined", backstop=False)
    leaving, staying, later = Browser(), Browser(), Browser()
    form = leaving.form(product)

    async def come() -> list[Answer | None]:
        left = asyncio.create_task(lane.answer(*form))
        stayed = asyncio.create_task(lane.answer(*staying.form(product)))
        await locked.until_somebody_waits()
        came_later = asyncio.create_task(lane.answer(*later.form(product)))
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.sleep(0)
        locked.unlock()
        answers = [await stayed, await came_later]
        with pytest.raises(asyncio.CancelledError):
            await left
        return answers

    with Locked(product) as locked:
        answers = runner.run(come())
    assert [answer and answer.status for answer in answers] == [302, 302]
    assert_nobody_waits(lane)
    hold = Reservation.objects.get(buyer=leaving.buyer)
    assert ask_django(form).status_code == 302
    assert Reservation.objects.get(buyer=leaving.buyer) == hold
    assert monitor.state_of(product.pk).held == 3


def test_a_client_that_leaves_before_its_batch_takes_nothing(
    make_product: MakeProduct, lane_runner: LaneRunner
) -> None:
    lane, runner = lane_runner
    product = make_product(2, strategy="combined", backstop=False)
    first, leaving, staying = Browser(), Browser(), Browser()
    form = leaving.form(product)

    async def come() -> list[Answer | None]:
        served = asyncio.create_task(lane.answer(*first.form(product)))
        await locked.until_somebody_waits()
        left = asyncio.create_task(lane.answer(*form))
        stayed = asyncio.create_task(lane.answer(*staying.form(product)))
        await asyncio.sleep(0)
        assert len(lane._forms._lists[product.slug]) == 2
        left.cancel()
        await asyncio.sleep(0)
        locked.unlock()
        return [await served, await stayed]

    with Locked(product) as locked:
        answers = runner.run(come())
    assert [answer and answer.status for answer in answers] == [302, 302]
    assert_nobody_waits(lane)
    assert not Reservation.objects.filter(buyer=leaving.buyer).exists()
    assert ask_django(form).status_code == 409  # the units went to those who stayed


def test_a_client_leaves_while_its_page_is_made(
    make_product: MakeProduct, lane_runner: LaneRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was the first to ask for the page. Those who came next get it."""
    lane, runner = lane_runner
    product = make_product(9)
    make: Callable[..., Awaitable[Any]] = Pages._make
    started, may_go_on = asyncio.Event(), asyncio.Event()

    async def make_slowly(*arguments: Any) -> Any:
        started.set()
        await may_go_on.wait()
        return await make(*arguments)

    monkeypatch.setattr(Pages, "_make", make_slowly)
    path = f"/products/{product.slug}/"

    async def come() -> Answer | None:
        left = asyncio.create_task(lane.answer(*Browser().page(path)))
        await started.wait()
        stayed = asyncio.create_task(lane.answer(*Browser().page(path)))
        await asyncio.sleep(0.2)  # the database has looked the second visitor up
        left.cancel()
        await asyncio.sleep(0)
        may_go_on.set()
        return await stayed

    answer = runner.run(come())
    assert answer is not None
    assert answer.status == 200


def test_all_clients_leave(make_product: MakeProduct, lane_runner: LaneRunner) -> None:
    """Nobody is left to take the answer, nor the error of a page. The next buyer is served."""
    lane, runner = lane_runner
    product = make_product(9, strategy="combined", backstop=False)

    async def leave() -> None:
        tasks = [asyncio.create_task(lane.answer(*Browser().form(product))) for _ in range(5)]
        await locked.until_somebody_waits()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        locked.unlock()
        while lane._forms._tasks:
            await asyncio.sleep(0.01)

    with Locked(product) as locked:
        runner.run(leave())
    assert_nobody_waits(lane)
    assert monitor.state_of(product.pk).held == 5
    answer = runner.run(lane.answer(*Browser().form(product)))
    assert answer is not None
    assert answer.status == 302
