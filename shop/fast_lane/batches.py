"""Those who wait in an event loop are served together, in threads, since Django's database waits.

While a batch is being served, the next one gathers. There is no timer: one who comes alone is
served alone. All that touches ``Batches`` runs in the loop's own thread.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, Protocol, TypeVar

from django.db import close_old_connections, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from shop import logs
from shop.database_errors import is_timeout
from shop.middleware.outages import spare_health_check

log = logging.getLogger(__name__)

MOST_AT_ONCE = 128  # in a batch; more would gain little, and the first would wait for the last
SECONDS_FOR_THREAD = 1.0  # until one of the threads must be free
SECONDS_WITHOUT_PROGRESS = 2.0  # of a batch, while others wait for the next one
SECONDS_OF_REST = 5.0  # for the lane, after a batch has waited for a lock in vain


class Waiting(Protocol):
    """Somebody who waits. Two of the same buyer are never in one batch."""

    @property
    def buyer(self) -> str: ...


K = TypeVar("K", bound=Hashable)
W = TypeVar("W", bound=Waiting)
T = TypeVar("T")


class AllBusy(Exception):
    """No thread has become free in time: each of them waits for the database."""

    def __init__(self) -> None:
        super().__init__("all threads are busy")


class Threads:
    """Threads with connections to the database of their own."""

    def __init__(self, most: int) -> None:
        self._pool = ThreadPoolExecutor(most, thread_name_prefix="fast lane")
        self._free = asyncio.Semaphore(most)
        self._connections: set[BaseDatabaseWrapper] = set()

    async def run(self, work: Callable[..., T], *args: object) -> T:
        """Run ``work`` in a thread, and return its result. Raises AllBusy."""
        try:
            async with asyncio.timeout(SECONDS_FOR_THREAD):
                await self._free.acquire()
        except TimeoutError:
            raise AllBusy from None
        running = asyncio.get_running_loop().run_in_executor(
            self._pool, logs.carry(self._with_good_connection), work, *args
        )
        running.add_done_callback(lambda _: self._free.release())
        return await asyncio.shield(running)  # its thread is busy even if we don't wait any more

    def _with_good_connection(self, work: Callable[..., T], *args: object) -> T:
        close_old_connections()  # after an error, or too old
        spare_health_check()
        try:
            return work(*args)
        finally:
            close_old_connections()
            self._connections.update(connections.all(initialized_only=True))

    def close(self) -> None:
        """Wait for the threads' work, and close their connections."""
        self._pool.shutdown()
        for connection in self._connections:
            connection.inc_thread_sharing()  # its own thread is gone
            connection.close()


class Batches(Generic[K, W]):
    """Those who wait, in one list for each ``key`` (such as a product), served by ``serve``.

    ``serve(key, batch)`` writes what came of it into each of the batch. If it fails, it has
    written nothing into the rest. If it waits for a lock, nobody else waits for it: the lane leaves
    the key to Django meanwhile, and for a while after it has waited in vain.
    """

    def __init__(self, serve: Callable[[K, Sequence[W]], object], threads: Threads) -> None:
        self._serve = serve
        self._threads = threads
        self._lists: dict[K, list[tuple[W, asyncio.Future[bool]]]] = {}
        self._resting: dict[K, float] = {}  # until when, by the event loop's clock
        self._tasks: set[asyncio.Task[None]] = set()  # the loop itself keeps no hold of them

    async def join(self, key: K, waiting: W) -> bool:
        """Wait until a batch has been served, with this one in it.

        Returns whether it has waited for a lock, in vain and as long as a request may.
        """
        loop = asyncio.get_running_loop()
        if self._resting and self._resting.get(key, 0) > loop.time():
            return False
        done: asyncio.Future[bool] = loop.create_future()
        if key in self._lists:
            self._lists[key].append((waiting, done))
        else:
            self._lists[key] = [(waiting, done)]
            task = asyncio.create_task(self._serve_all(key))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await done

    async def _serve_all(self, key: K) -> None:
        """Serve batch after batch until nobody waits."""
        await asyncio.sleep(0)  # requests that came in the same moment are in the first one
        while batch := self._take_batch(key):
            in_vain = False
            try:
                await self._serve_batch(key, [waiting for waiting, _ in batch])
            except Exception as error:
                in_vain = is_timeout(error)
                if in_vain or isinstance(error, AllBusy):
                    _call(self._take_rest(key))
                log.warning("The fast lane leaves %d requests to Django: %s", len(batch), error)
            finally:
                _call(batch, in_vain)
        del self._lists[key]

    async def _serve_batch(self, key: K, batch: list[W]) -> None:
        """Serve the batch. While it makes no progress, Django finds out for all others."""
        serving = asyncio.ensure_future(self._threads.run(self._serve, key, batch))
        done, _ = await asyncio.wait({serving}, timeout=SECONDS_WITHOUT_PROGRESS)
        if not done:
            self._resting[key] = math.inf
            _call(self._take_rest(key))
            await asyncio.wait({serving})
            del self._resting[key]
        error = serving.exception()
        if error is not None and is_timeout(error):
            self._rest(key)
        serving.result()

    def _take_batch(self, key: K) -> list[tuple[W, Any]]:
        """Take out the next batch, in order of arrival, without those who have left."""
        batch: dict[str, tuple[W, Any]] = {}
        stay = []
        for place, (waiting, done) in enumerate(self._lists[key]):
            if len(batch) == MOST_AT_ONCE:
                stay += self._lists[key][place:]
                break
            if done.done():
                continue
            if waiting.buyer in batch:
                stay.append((waiting, done))
            else:
                batch[waiting.buyer] = waiting, done
        self._lists[key] = stay
        return list(batch.values())

    def _take_rest(self, key: K) -> list[tuple[W, Any]]:
        """Take out all who wait: there is no thread for them, or they would wait in vain, too."""
        rest, self._lists[key] = self._lists[key], []
        return rest

    def _rest(self, key: K) -> None:
        """Leave the key to Django for a while."""
        now = asyncio.get_running_loop().time()
        self._resting = {each: end for each, end in self._resting.items() if end > now}
        self._resting[key] = now + SECONDS_OF_REST


def _call(batch: Sequence[tuple[W, Any]], in_vain: bool = False) -> None:
    """Wake those who wait; the clients of some may have gone meanwhile."""
    for _, done in batch:
        if not done.done():
            done.set_result(in_vain)
