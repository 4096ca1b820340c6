"""The worker that outlives its database: it waits until the database is back, and goes on."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import Any

import psycopg
from procrastinate import App, signals, utils
from procrastinate.exceptions import ConnectorException

from shop.database_errors import is_outage

log = logging.getLogger(__name__)

LONGEST_PAUSE = 30.0  # seconds between two tries
SECONDS_TO_BE_STABLE = 60.0  # a worker that lasted longer had its database back


async def work_until_stopped(app: App, **options: Any) -> None:
    """Run procrastinate's worker, and start it again whenever it loses the database.

    By itself procrastinate's worker ends when it loses a connection, as if a signal had come.
    This one returns only after SIGTERM or SIGINT, when the jobs under way are done, or after the
    last job if ``options`` say ``wait=False``. It raises all errors other than a lost database.
    """
    stop_requested = asyncio.Event()
    pause = 0.0
    with signals.on_stop(stop_requested.set):
        while True:
            started = time.monotonic()
            await _work_once(app, stop_requested, **options)
            if stop_requested.is_set() or options.get("wait") is False:
                return
            lasted = time.monotonic() - started
            pause = 1.0 if lasted > SECONDS_TO_BE_STABLE else min(pause * 2 or 1.0, LONGEST_PAUSE)
            log.warning("The worker has lost its database. It tries again in %.0f s.", pause)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop_requested.wait(), pause)
            if stop_requested.is_set():
                return


async def _work_once(app: App, stop_requested: asyncio.Event, **options: Any) -> None:
    """Work until a stop is requested, the database is lost, or no job is left."""
    work = asyncio.ensure_future(app.run_worker_async(install_signal_handlers=False, **options))
    end = asyncio.ensure_future(stop_requested.wait())
    await asyncio.wait({work, end}, return_when=asyncio.FIRST_COMPLETED)
    end.cancel()
    work.cancel()  # if it still works: it finishes the jobs under way first
    try:
        await work
    except asyncio.CancelledError:
        pass
    except (ConnectorException, psycopg.Error) as error:
        if not any(is_outage(cause) for cause in utils.causes(error)):
            raise
        if options.get("wait") is False:
            raise
