"""How a worker reaches its database and the queue there, also through outages."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import psycopg
import psycopg.errors
from procrastinate import App, PsycopgConnector
from procrastinate.connector import BaseConnector
from procrastinate.contrib.django.utils import connector_params
from procrastinate.exceptions import ConnectorException
from procrastinate.manager import JobManager
from psycopg_pool import AsyncConnectionPool, PoolTimeout

log = logging.getLogger(__name__)

SECONDS_BETWEEN_TRIES = 1.0
# procrastinate's function in the database raises it: the job is no longer under way.
TAKEN_AWAY = psycopg.errors.RaiseException


@contextmanager
def reached(app: App, when_registered: Callable[[], None]) -> Iterator[JobManagerOfWorker]:
    """Let the app's worker reach the database of Django's settings in this way.

    ``when_registered`` is called each time when the worker has reached it, and takes jobs.
    """
    connector = PsycopgConnector(pool_factory=EagerPool, kwargs=connector_params())
    with app.replace_connector(connector) as app:  # a proxy is given, and the app itself comes
        original, app.job_manager = app.job_manager, JobManagerOfWorker(connector, when_registered)
        try:
            yield app.job_manager
        finally:
            app.job_manager = original


class EagerPool(AsyncConnectionPool[Any]):
    """A pool that tries every second to connect, while somebody waits for a connection.

    By itself it would wait twice as long after each failure, and a worker would notice half a
    minute late that its database is back.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(reconnect_timeout=SECONDS_BETWEEN_TRIES, **options)

    async def open(self, wait: bool = False, timeout: float = 30.0) -> None:
        """Open it at once, also if the database is away: those who ask for a connection wait."""
        await super().open(wait=False)

    async def getconn(self, timeout: float | None = None) -> Any:
        """A connection. Raises PoolTimeout if there is none for so many seconds."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            left = deadline - time.monotonic()
            try:
                return await super().getconn(min(left, SECONDS_BETWEEN_TRIES))
            except PoolTimeout:  # the pool has given up; it tries again when asked again
                if left <= SECONDS_BETWEEN_TRIES:
                    raise


class JobManagerOfWorker(JobManager):
    """The queue, as a worker uses it that is started again and again in the same process.

    A job whose end could not be recorded stays under way as long as its worker lives. So the
    worker must end then (see ``end_is_lost``). The next one takes this one out of the table of
    workers, and the job is started again.
    """

    def __init__(self, connector: BaseConnector, when_registered: Callable[[], None]) -> None:
        super().__init__(connector)
        self.end_is_lost = asyncio.Event()
        self._when_registered = when_registered
        self._worker_id: int | None = None

    async def register_worker(self) -> int:
        """Register the worker that begins, in place of the one before: its jobs are free then."""
        if self._worker_id is not None:
            await self.unregister_worker(self._worker_id)
        self._worker_id = await super().register_worker()
        self._when_registered()
        return self._worker_id

    async def finish_job(self, *args: Any, **kwargs: Any) -> None:
        await self._record(partial(super().finish_job, *args, **kwargs))

    async def retry_job(self, *args: Any, **kwargs: Any) -> None:
        await self._record(partial(super().retry_job, *args, **kwargs))

    async def _record(self, end: Callable[[], Awaitable[None]]) -> None:
        """Record the end of a job; once more if the database was lost meanwhile."""
        for last in (False, True):
            try:
                return await end()
            except ConnectorException as error:
                cause = error.__cause__
                if isinstance(cause, TAKEN_AWAY) and last:
                    return  # the first time it was recorded after all
                if isinstance(cause, TAKEN_AWAY) or not isinstance(cause, psycopg.Error):
                    raise
                log.warning("The end of a job could not be recorded: %s", cause)
                if last:
                    self.end_is_lost.set()
                    raise
