"""The worker's own loop. tests/http/test_worker_outlives_the_database.py has real ones."""

from __future__ import annotations

import asyncio
import time

import pytest

from shop.deployment import worker


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds by which this machine's clock is ahead, in a list, so that it can be set."""
    ahead = [0.0]
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + ahead[0])
    monkeypatch.setattr(worker, "SECONDS_TO_NOTICE", 0.01)
    return ahead


def notices(clock: list[float], *changes: float) -> bool:
    """Whether the worker notices that the clock is set by these seconds, one after the other."""

    async def set_the_clock() -> bool:
        noticing = asyncio.ensure_future(worker.clock_was_set_back())
        for change in changes:
            await asyncio.sleep(0.05)
            clock[0] += change
        await asyncio.wait({noticing}, timeout=0.5)
        noticing.cancel()
        return noticing.done()

    return asyncio.run(set_the_clock())


def test_it_begins_anew_when_the_clock_is_set_back(clock: list[float]) -> None:
    assert notices(clock, -3600)


def test_it_begins_anew_when_a_clock_that_was_wrong_is_set_right(clock: list[float]) -> None:
    assert notices(clock, 3600, -3600)


def test_it_goes_on_when_the_clock_is_set_forward_or_by_little(clock: list[float]) -> None:
    assert not notices(clock, 3600, -5)
