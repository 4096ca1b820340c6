"""The worker that outlives its database: it waits until the database is back, and goes on."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import Any

import psycopg
import psycopg.errors
from procrastinate import App, signals, utils
from procrastinate.exceptions import ConnectorException

from shop.database_errors import is_outage
from shop.retries import look_after_queue

log = logging.getLogger(__name__)

LONGEST_PAUSE = 5.0  # seconds between two tries
SECONDS_TO_BE_STABLE = 60.0  # a worker that lasted longer had its database back
SECONDS_SET_BACK = 10.0  # of a machine's clock; less is no harm
SECONDS_TO_NOTICE = 5.0
# Another worker has deleted this one from the table of workers, since it gave no sign of life.
STRUCK_OFF = psycopg.errors.ForeignKeyViolation


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
            log.warning("The worker begins anew in %.0f s.", pause)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop_requested.wait(), pause)
            if stop_requested.is_set():
                return


async def _work_once(app: App, stop_requested: asyncio.Event, **options: Any) -> None:
    """Work until a stop is requested, the database is lost, or no job is left."""
    try:
        await app.open_async()
        await _work_until_end(app, stop_requested, **options)
    except asyncio.CancelledError:
        pass
    except (ConnectorException, psycopg.Error) as error:
        causes = list(utils.causes(error))
        if not any(is_outage(cause) or isinstance(cause, STRUCK_OFF) for cause in causes):
            raise
        if options.get("wait") is False:
            raise
        log.warning("The worker has lost its database: %s", causes[-1])
    if options.get("wait") is not False and not stop_requested.is_set():
        # After a long outage the pool would wait for up to two minutes before it tries again.
        await app.close_async()


async def _work_until_end(app: App, stop_requested: asyncio.Event, **options: Any) -> None:
    work = asyncio.ensure_future(app.run_worker_async(install_signal_handlers=False, **options))
    ends = [
        asyncio.ensure_future(stop_requested.wait()),
        asyncio.ensure_future(clock_was_set_back()),
    ]
    care = asyncio.ensure_future(look_after_queue(app))
    await asyncio.wait({work, *ends}, return_when=asyncio.FIRST_COMPLETED)
    for other in (*ends, care):
        other.cancel()
    work.cancel()  # if it still works: it finishes the jobs under way first
    await work


async def clock_was_set_back() -> None:
    """Return when this machine's clock was set back.

    procrastinate would queue no periodic job until the clock shows the former time again.
    """
    ahead = time.time() - time.monotonic()
    while time.time() - time.monotonic() > ahead - SECONDS_SET_BACK:
        ahead = max(ahead, time.time() - time.monotonic())
        await asyncio.sleep(SECONDS_TO_NOTICE)
    log.warning("This machine's clock was set back.")
