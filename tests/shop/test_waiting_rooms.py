"""Requests for a stuck product can't take all threads; a rush that makes progress is let in."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from django.db import OperationalError

from shop import waiting_rooms
from shop.waiting_rooms import ProductBusy, WaitingRooms

ANVIL, LAMP = 1, 2


def time_out() -> OperationalError:
    """Raise the error of a statement that waited too long for a lock."""
    error = OperationalError("canceling statement due to lock timeout")
    error.__cause__ = psycopg.errors.LockNotAvailable("canceling statement due to lock timeout")
    return error


class Crowd:
    """Threads that stay inside until they may go."""

    def __init__(self, rooms: WaitingRooms, product_id: int, size: int) -> None:
        self.may_go = threading.Event()
        self._pool = ThreadPoolExecutor(size)
        all_inside = threading.Barrier(size + 1)
        self._stays = [
            self._pool.submit(self._stay, rooms, product_id, all_inside) for _ in range(size)
        ]
        all_inside.wait(60)

    def _stay(self, rooms: WaitingRooms, product_id: int, all_inside: threading.Barrier) -> None:
        with rooms.enter(product_id):
            all_inside.wait(60)
            self.may_go.wait(60)

    def let_go(self) -> None:
        self.may_go.set()
        for each in self._stays:
            each.result(60)


@pytest.fixture
def rooms(monkeypatch: pytest.MonkeyPatch) -> WaitingRooms:
    monkeypatch.setattr(waiting_rooms, "SECONDS_WITHOUT_PROGRESS", 0.2)
    return WaitingRooms(3)


def test_one_too_many_is_turned_away_if_none_gets_done(rooms: WaitingRooms) -> None:
    crowd = Crowd(rooms, ANVIL, 3)
    with pytest.raises(ProductBusy, match="Anvil"), rooms.enter(ANVIL, "Anvil"):
        pass
    with rooms.enter(LAMP):
        pass  # another product has a room of its own
    crowd.let_go()
    with rooms.enter(ANVIL):
        pass


def test_the_next_one_is_turned_away_at_once(
    rooms: WaitingRooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd = Crowd(rooms, ANVIL, 3)
    with pytest.raises(ProductBusy), rooms.enter(ANVIL):
        pass
    monkeypatch.setattr(waiting_rooms, "SECONDS_WITHOUT_PROGRESS", 600)
    with pytest.raises(ProductBusy), rooms.enter(ANVIL):
        pass
    crowd.let_go()


def test_after_a_wait_in_vain_one_at_a_time_tries(
    rooms: WaitingRooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting_rooms, "SECONDS_WITHOUT_PROGRESS", 600)
    with pytest.raises(OperationalError), rooms.enter(ANVIL):
        raise time_out()
    with rooms.enter(ANVIL), pytest.raises(ProductBusy), rooms.enter(ANVIL):
        pass
    Crowd(rooms, ANVIL, 3).let_go()  # that one got done: all slots are free again


def test_being_turned_away_is_no_wait_in_vain(rooms: WaitingRooms) -> None:
    with pytest.raises(LookupError), rooms.enter(ANVIL):
        raise LookupError
    Crowd(rooms, ANVIL, 3).let_go()


def test_a_rush_that_makes_progress_is_served_whatever_its_size(
    rooms: WaitingRooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last ones wait for longer than a request may without progress."""
    monkeypatch.setattr(waiting_rooms, "SECONDS_WITHOUT_PROGRESS", 1.0)
    inside: list[int] = []
    most = []

    def buy() -> None:
        with rooms.enter(ANVIL):
            inside.append(1)
            most.append(len(inside))
            threading.Event().wait(0.12)
            inside.pop()

    with ThreadPoolExecutor(30) as buyers:
        for each in [buyers.submit(buy) for _ in range(36)]:
            each.result(60)
    assert max(most) == 3
    assert rooms._rooms == {}
