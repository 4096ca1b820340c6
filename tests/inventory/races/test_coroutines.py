"""Coroutines race like ordinary functions: as sessions, as views, and around them."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connection
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import AsyncClient, RequestFactory
from django.urls import path

from inventory.races import Misuse, Run, StepTimedOut, explore, replay, request
from tests.inventory.races.models import Mug, Sale
from tests.inventory.races.test_counts import (
    SoldOut,
    in_a_transaction,
    one_mug,
    read_check_save,
    sells_at_most_one,
)

pytestmark = pytest.mark.django_db(transaction=True)


async def aread_check_save() -> None:
    mug = await Mug.objects.aget(sku="MUG")
    if mug.stock < 1:
        raise SoldOut
    mug.stock -= 1
    await mug.asave()
    await Sale.objects.acreate(sku="MUG")


async def buy(asked: HttpRequest) -> HttpResponse:
    try:
        await aread_check_save()
    except SoldOut:
        return HttpResponse("Sold out.", status=409)
    return HttpResponse("Yours.")


async def stream(asked: HttpRequest) -> StreamingHttpResponse:
    async def skus() -> Any:
        async for mug in Mug.objects.all():
            yield mug.sku

    return StreamingHttpResponse(skus())


urlpatterns = [path("buy/", buy), path("stream/", stream)]


@pytest.fixture(autouse=True)
def project(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = []


# Sessions


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (aread_check_save, aread_check_save),
        (aread_check_save, read_check_save),
        (lambda: aread_check_save(), async_to_sync(aread_check_save)),
    ],
)
def test_they_have_the_schedules_of_functions(one: Any, other: Any) -> None:
    """16, of which 12 are broken: see test_counts."""
    result = explore([one, other], setup=one_mug, invariant=sells_at_most_one)
    assert (result.schedules, len(result.broken), result.exhaustive) == (16, 12, True)


def test_a_transaction_in_a_coroutine_is_held() -> None:
    session = sync_to_async(in_a_transaction)
    result = explore([session, session], setup=one_mug, invariant=sells_at_most_one)
    assert (result.schedules, len(result.broken)) == (24, 22)


def test_what_a_coroutine_returns_and_raises_is_its_result() -> None:
    async def count() -> int:
        return await Mug.objects.acount()

    run = replay("A B", [count, aread_check_save], setup=one_mug)
    assert run.returned == {"A": 1, "B": None}
    run = replay("A*3 B", [aread_check_save, aread_check_save], setup=one_mug)
    assert isinstance(run.raised["B"], SoldOut)


def test_tasks_of_one_session_come_in_one_order() -> None:
    """Their SQL is sent in the session's thread, so never at once."""

    async def three_at_once() -> object:
        async def twice() -> int:
            return await Mug.objects.acount() + await Sale.objects.acount()

        return await asyncio.gather(twice(), twice(), twice())

    result = explore([three_at_once, aread_check_save], setup=one_mug)
    tables = [sorted(s.tables)[0] for s in result.runs[0].steps if s.session == "A"]
    assert tables == ["race_models_mug"] * 3 + ["race_models_sale"] * 3
    # A has 6 steps, B has 3, and none waits: 9! / (6! × 3!)
    assert (result.schedules, result.exhaustive) == (84, True)


@pytest.mark.parametrize("fails", [False, True])
def test_a_task_that_nobody_awaits_belongs_to_its_session(fails: bool) -> None:
    """In a server, it goes on when the response is sent."""

    async def later() -> None:
        await Mug.objects.aupdate(stock=0)
        await Sale.objects.acreate(sku="MUG")

    async def at_once() -> None:
        await Mug.objects.acount()
        tasks.append(asyncio.create_task(later()))
        if fails:
            raise SoldOut

    tasks: list[object] = []
    run = replay("A", [at_once, aread_check_save], setup=one_mug)
    kinds = [step.kind.value for step in run.steps if step.session == "A"]
    assert kinds == ["read", "write", "write"]


def test_sessions_that_are_given_up_end() -> None:
    async def for_ever() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(Mug.objects.acount())
            while await Mug.objects.aexists():
                pass

    with pytest.raises(Misuse, match="A has made 7 steps"):
        explore([for_ever, aread_check_save], setup=one_mug, max_steps=7)
    cut = explore([aread_check_save] * 2, setup=one_mug, reduce=True)
    assert cut.exhaustive
    assert not sessions_left()


@pytest.mark.parametrize("is_awaited", [True, False])
def test_a_coroutine_that_waits_for_nothing_is_cancelled(is_awaited: bool) -> None:
    """Otherwise its loop's thread would keep the tests from ending."""
    has_ended = threading.Event()

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            has_ended.set()

    async def stand_still() -> None:
        await Mug.objects.acount()
        task = asyncio.create_task(wait())
        if is_awaited:
            await task

    with pytest.raises(StepTimedOut, match=r"Session A isn't in SQL"):
        explore([stand_still, aread_check_save], setup=one_mug, step_timeout=2)
    assert has_ended.wait(60)
    assert not sessions_left()


def test_pauses_are_no_steps() -> None:
    async def try_again() -> None:
        for _ in range(3):
            await asyncio.sleep(3600)
            time.sleep(3600)
            await Mug.objects.acount()

    before = (time.sleep, asyncio.sleep)
    assert explore([try_again, try_again], setup=one_mug, max_preemptions=0).schedules == 2
    assert (time.sleep, asyncio.sleep) == before


def in_another_thread() -> None:
    try:
        Mug.objects.count()
    finally:
        connection.close()


async def by_to_thread() -> None:
    await asyncio.to_thread(in_another_thread)


async def by_executor() -> None:
    await asyncio.get_running_loop().run_in_executor(None, in_another_thread)


async def not_thread_sensitive() -> None:
    await sync_to_async(in_another_thread, thread_sensitive=False)()


async def in_one_of_many_tasks() -> None:
    await asyncio.gather(Mug.objects.acount(), by_to_thread(), return_exceptions=True)


def by_a_loop_of_its_own() -> None:
    asyncio.run(aread_check_save())


@pytest.mark.parametrize(
    "session",
    [
        by_to_thread,
        by_executor,
        not_thread_sensitive,
        in_one_of_many_tasks,
        by_a_loop_of_its_own,
    ],
)
def test_sql_in_another_thread_is_refused(session: Any) -> None:
    with pytest.raises(Misuse, match="Session A uses the database in another thread"):
        explore([session, aread_check_save], setup=one_mug)


def test_a_coroutine_s_reading_of_the_clock_is_noted() -> None:
    async def sell_now() -> None:
        await Mug.objects.aupdate(stock=0)
        await Sale.objects.acreate(sku=f"{datetime.now(UTC):%j}")

    result = explore([sell_now, aread_check_save], setup=one_mug, max_preemptions=0)
    assert [note for note in result.notes if note.startswith("A read the clock (")]


def sessions_left() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("race session")]


# Views


def test_an_async_view_by_each_client() -> None:
    async def by_client() -> int:
        return (await AsyncClient().post("/buy/")).status_code

    async def by_hand() -> int:
        return (await buy(RequestFactory().post("/buy/"))).status_code

    for session in (by_client, by_hand, request("/buy/")):
        result = explore(
            [session, session],
            setup=one_mug,
            invariant=sells_at_most_one,
            max_preemptions=1,
        )
        assert (result.schedules, bool(result.broken)) == (6, True)


def test_an_async_stream_is_read_to_its_end() -> None:
    run = replay("A B", [request("/stream/"), request("/stream/")], setup=one_mug)
    assert [step.session for step in run.steps] == ["A", "B"]


# Around the sessions


def test_setup_and_invariant_may_be_coroutines() -> None:
    """A coroutine that nobody awaits would set nothing up, and break no rule."""

    async def setup() -> None:
        await sync_to_async(one_mug)()

    async def invariant(run: Run) -> bool:
        return await Sale.objects.acount() <= 1

    async def describe() -> str:
        return f"{await Sale.objects.acount()} sold"

    async def state() -> object:
        return await Sale.objects.acount()

    around: dict[str, Any] = {"invariant": invariant, "describe": describe, "state": state}
    result = explore([read_check_save] * 2, setup=setup, **around)
    assert (result.schedules, len(result.broken)) == (16, 12)
    assert result.shortest is not None
    assert (result.shortest.before, result.shortest.after) == ("0 sold", "2 sold")
    assert len(result.not_serializable) == 12


def test_a_test_that_is_a_coroutine_is_told_to_be_a_function() -> None:
    async def test() -> None:
        explore([read_check_save] * 2, setup=one_mug)

    with pytest.raises(Misuse, match=r"its sessions may be coroutines \(async def\)"):
        asyncio.run(test())
