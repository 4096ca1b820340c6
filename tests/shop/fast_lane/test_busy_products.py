"""Products that are stuck, threads that are all taken, and buyers of all others meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.test.utils import CaptureQueriesContext

from inventory import monitor
from inventory.models import Reservation
from shop.fast_lane import Answer, batches
from shop.fast_lane.batches import Batches, Threads
from shop.fast_lane.lane import THREADS_TO_RESERVE
from shop.models import HoldAddress
from tests.conftest import MakeProduct
from tests.shop.fast_lane.conftest import Browser, LaneRunner, ask_django
from tests.shop.fast_lane.locked import Locked

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def short_lock_timeout() -> Iterator[None]:
    """The lane's connections wait for a lock as those of a web server do, only less long."""

    def limit(connection: BaseDatabaseWrapper, **kwargs: object) -> None:
        if threading.current_thread().name.startswith("fast lane"):
            with connection.cursor() as cursor:
                cursor.execute("SET lock_timeout = '300ms'")

    connection_created.connect(limit)
    yield
    connection_created.disconnect(limit)


def statuses(answers: list[Answer | None]) -> list[int | None]:
    return [answer.status if answer else None for answer in answers]


@pytest.mark.usefixtures("short_lock_timeout")
def test_only_the_buyers_of_locked_products_wait(
    make_product: MakeProduct,
    lane_runner: LaneRunner,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Even if there are as many of these products as threads, and for none longer than needed."""
    monkeypatch.setattr(batches, "SECONDS_OF_REST", 60.0)
    lane, runner = lane_runner
    stuck = [
        make_product(9, strategy="combined", backstop=False) for _ in range(THREADS_TO_RESERVE)
    ]
    other = make_product(9, strategy="combined", backstop=False)

    async def come() -> tuple[list[Answer | None], list[Answer | None]]:
        waiting = [
            asyncio.create_task(lane.answer(*Browser().form(product))) for product in stuck * 3
        ]
        await locked.until_somebody_waits(len(stuck))
        behind = [
            asyncio.create_task(lane.answer(*Browser().form(product))) for product in stuck * 2
        ]
        served = await lane.answer(*Browser().form(other))
        return [served], await asyncio.gather(*waiting, *behind)

    with Locked(*stuck) as locked:
        served, left = runner.run(come())
        assert statuses(served) == [302]
        assert set(statuses(left)) == {None}
        assert not HoldAddress.objects.exclude(reservation_id=Reservation.objects.get().pk)
        # Now Django finds out whether the product is still stuck, and the lane doesn't ask.
        caplog.clear()
        assert runner.run(lane.answer(*Browser().form(stuck[0]))) is None
        assert caplog.records == []
    lane._forms._resting.clear()  # the time is over
    for product in stuck:
        answer = runner.run(lane.answer(*Browser().form(product)))
        assert answer is not None
        assert answer.status == 302
        assert monitor.state_of(product.pk).held == 1


@pytest.mark.usefixtures("short_lock_timeout")
def test_a_stuck_products_rest_ends_by_itself(
    make_product: MakeProduct, lane_runner: LaneRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "SECONDS_OF_REST", 0.1)
    lane, runner = lane_runner
    product = make_product(9, strategy="combined", backstop=False)
    form = Browser().form(product)
    with Locked(product):
        assert runner.run(lane.answer(*form)) is None

    async def come_later() -> Answer | None:
        await asyncio.sleep(0.2)
        return await lane.answer(*form)

    assert statuses([runner.run(come_later())]) == [302]
    assert ask_django(form).status_code == 302
    assert Reservation.objects.count() == 1


@pytest.mark.usefixtures("short_lock_timeout")
def test_an_address_gets_its_units_back_that_were_claimed_for_a_locked_product(
    make_product: MakeProduct, lane_runner: LaneRunner, settings: Any
) -> None:
    """Else everybody at this address is refused for minutes, whatever they want."""
    settings.MOST_UNITS_PER_ADDRESS = 3
    lane, runner = lane_runner
    stuck = make_product(9, strategy="combined", backstop=False)
    other = make_product(9, strategy="combined", backstop=False)
    with Locked(stuck):
        assert runner.run(lane.answer(*Browser().form(stuck, 3))) is None
        assert statuses([runner.run(lane.answer(*Browser().form(other, 3)))]) == [302]


def test_nobody_waits_longer_for_a_thread_than_django_would_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batches, "SECONDS_FOR_THREAD", 0.05)
    threads = Threads(1)
    may_end = threading.Event()
    served: list[list[str]] = []

    class One:
        def __init__(self, buyer: str) -> None:
            self.buyer = buyer

    def serve(key: str, batch: list[One]) -> None:
        if key == "slow":
            may_end.wait(60)
        served.append([one.buyer for one in batch])

    async def come() -> None:
        lists: Batches[str, One] = Batches(serve, threads)  # type: ignore[arg-type]
        slow = asyncio.create_task(lists.join("slow", One("A")))
        await asyncio.sleep(0.01)
        async with asyncio.timeout(60):
            await asyncio.gather(lists.join("quick", One("B")), lists.join("quick", One("C")))
        assert served == []
        may_end.set()
        await slow
        await lists.join("quick", One("D"))
        assert not lists._lists

    try:
        asyncio.run(come())
    finally:
        may_end.set()
        threads.close()
    assert served == [["A"], ["D"]]


def test_a_thread_counts_as_busy_although_nobody_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batches, "SECONDS_FOR_THREAD", 0.05)
    threads = Threads(1)
    may_end = threading.Event()

    async def come() -> None:
        left = asyncio.create_task(threads.run(may_end.wait, 60))
        await asyncio.sleep(0.01)
        left.cancel()
        with pytest.raises(batches.AllBusy):
            await threads.run(int)
        may_end.set()
        monkeypatch.setattr(batches, "SECONDS_FOR_THREAD", 60)  # it becomes free at any moment
        assert await threads.run(int) == 0

    try:
        asyncio.run(come())
    finally:
        may_end.set()
        threads.close()


def test_batches_are_in_order_of_arrival_and_nobody_is_overtaken_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A buyer who comes again and again waits for the others, and is not forgotten either."""
    monkeypatch.setattr(batches, "MOST_AT_ONCE", 3)
    threads = Threads(1)
    served: list[str] = []

    class One:
        def __init__(self, buyer: str, number: int) -> None:
            self.buyer, self.name = buyer, f"{buyer}{number}"

    def serve(key: None, batch: list[One]) -> None:
        served.append(" ".join(one.name for one in batch))

    async def come() -> None:
        lists: Batches[None, One] = Batches(serve, threads)  # type: ignore[arg-type]
        arrivals = [("A", 1), ("A", 2), ("B", 1), ("A", 3), ("C", 1), ("D", 1), ("B", 2), ("E", 1)]
        await asyncio.gather(*(lists.join(None, One(*arrival)) for arrival in arrivals))

    try:
        asyncio.run(come())
    finally:
        threads.close()
    assert served == ["A1 B1 C1", "A2 D1 B2", "A3 E1"]


def test_nobody_joins_a_queue_that_makes_no_progress(
    make_product: MakeProduct, lane_runner: LaneRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch under way waits on: nobody knows its outcome yet. The others don't."""
    monkeypatch.setattr(batches, "SECONDS_WITHOUT_PROGRESS", 0.2)
    lane, runner = lane_runner
    product = make_product(9, strategy="combined", backstop=False)

    async def come() -> list[Answer | None]:
        first = asyncio.create_task(lane.answer(*Browser().form(product)))
        with Locked(product) as locked:
            await locked.until_somebody_waits(1)
            others = [lane.answer(*Browser().form(product)) for _ in range(3)]
            assert await asyncio.gather(*others) == [None] * 3
            assert await lane.answer(*Browser().form(product)) is None
            assert not first.done()
        return [await first, await lane.answer(*Browser().form(product))]

    assert statuses(runner.run(come())) == [302, 302]


@pytest.mark.usefixtures("short_lock_timeout")
def test_a_buyer_waits_for_a_lock_once(make_product: MakeProduct, lane_runner: LaneRunner) -> None:
    """Django answers at once, after the lane has waited as long as a request may."""
    lane, runner = lane_runner
    product = make_product(9, strategy="combined", backstop=False)
    form = Browser().form(product)
    with Locked(product):
        assert runner.run(lane.answer(*form)) is None
        with CaptureQueriesContext(connection) as asked:
            answer = ask_django(form, after_lane=True)
    assert not [each for each in asked if "UPDATE inventory_product" in each["sql"]]
    assert answer.status_code == 503
    assert answer["Retry-After"] == "5"
    assert ask_django(form).status_code == 302
