"""How a worker reaches its database.

tests/http/test_worker_outlives_the_database.py has real ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
import pytest
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateWorker
from procrastinate.contrib.django.utils import connector_params
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job, Status
from psycopg_pool import PoolTimeout

from shop.deployment import worker_database
from shop.deployment.worker_database import EagerPool, JobManagerOfWorker

pytestmark = pytest.mark.django_db(transaction=True)


def with_manager(use: Callable[[JobManagerOfWorker], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        with worker_database.reached(app, lambda: None) as manager:
            async with app.open_async():
                return await use(manager)

    return asyncio.run(run())


class TestPool:
    def connect_after(self, failures: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """Ask a pool once for a connection; the database is away so many times."""
        monkeypatch.setattr(worker_database, "SECONDS_BETWEEN_TRIES", 0.05)
        left = failures

        class Connection(psycopg.AsyncConnection[Any]):
            @classmethod
            async def connect(cls, *args: Any, **kwargs: Any) -> Any:
                nonlocal left
                if left:
                    left -= 1
                    raise psycopg.OperationalError("away")
                return await super().connect(*args, **kwargs)

        async def ask() -> None:
            pool = EagerPool(
                connection_class=Connection,
                kwargs=connector_params(),
                min_size=1,
                timeout=3,
                open=False,
            )
            await pool.open(wait=True)
            async with pool, pool.connection() as connection:
                await connection.execute("SELECT 1")

        asyncio.run(ask())

    def test_it_tries_again_and_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.connect_after(10, monkeypatch)

    def test_it_gives_up_in_the_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(PoolTimeout):
            self.connect_after(10**6, monkeypatch)


def test_a_worker_that_begins_again_is_another_one() -> None:
    """Jobs of the one before are free then: its row is gone."""

    async def begin_twice(manager: JobManagerOfWorker) -> list[int]:
        return [await manager.register_worker(), await manager.register_worker()]

    _, second = with_manager(begin_twice)
    assert list(ProcrastinateWorker.objects.values_list("pk", flat=True)) == [second]


class TestEndOfJob:
    def is_lost(self, monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> bool:
        """Whether the end of a job is known to be lost, if recording it raises this error."""
        job = Job(id=1, lock=None, queueing_lock=None, task_name="t", queue="default")

        async def record(manager: JobManagerOfWorker) -> bool:
            async def execute(*args: Any, **kwargs: Any) -> None:
                if error:
                    raise ConnectorException from error

            monkeypatch.setattr(manager.connector, "execute_query_async", execute)
            for end in (
                manager.finish_job(job, Status.SUCCEEDED, delete_job=False),
                manager.retry_job(job),
            ):
                if error:
                    with pytest.raises(ConnectorException):
                        await end
                else:
                    await end
            return manager.end_is_lost.is_set()

        return bool(with_manager(record))

    def test_without_an_error_it_is_not_lost(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert not self.is_lost(monkeypatch, None)

    def test_a_database_that_is_away_loses_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.is_lost(monkeypatch, psycopg.OperationalError("away"))

    def test_another_worker_has_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert not self.is_lost(monkeypatch, psycopg.errors.RaiseException("not found"))
