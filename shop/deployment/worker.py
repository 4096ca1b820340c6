"""The worker that outlives its database: it waits until the database is back, and goes on.

It tells systemd when it works, and SIGHUP makes it start anew: it finishes the jobs under way, and
its process runs the code and the settings that are there then.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import psycopg
import psycopg.errors
from procrastinate import App, signals
from procrastinate.exceptions import ConnectorException

from shop.database_errors import causes, is_outage
from shop.deployment.job_log import log_job
from shop.deployment.service_manager import STOPPING, ServiceManager
from shop.deployment.worker_database import JobManagerOfWorker
from shop.retries import look_after_queue

log = logging.getLogger(__name__)

LONGEST_PAUSE = 5.0  # seconds between two tries
SECONDS_TO_BE_STABLE = 60.0  # a worker that lasted longer had its database back
SECONDS_SET_BACK = 10.0  # of a machine's clock; less is no harm
SECONDS_TO_NOTICE = 5.0
# Another worker has deleted this one from the table of workers, since it gave no sign of life.
STRUCK_OFF = psycopg.errors.ForeignKeyViolation


async def work_until_stopped(
    app: App,
    service_manager: ServiceManager | None = None,
    must_start_anew: threading.Event | None = None,
    **options: Any,
) -> None:
    """Run procrastinate's worker, and start it again whenever it loses the database.

    By itself procrastinate's worker ends when it loses a connection, as if a signal had come.
    This one returns only after SIGTERM or SIGINT, when the jobs under way are done, or after the
    last job if ``options`` say ``wait=False``. SIGHUP does the same, and sets ``must_start_anew``.
    It raises all errors other than a lost database. The app reaches its database as in
    ``worker_database.reached``.
    """
    service_manager = service_manager or ServiceManager()
    stop_requested = asyncio.Event()

    def stop() -> None:
        service_manager.send(STOPPING)
        if must_start_anew:  # a stop counts more than a reload under way
            must_start_anew.clear()
        stop_requested.set()

    def reload() -> None:
        if must_start_anew and not stop_requested.is_set():
            service_manager.send_reloading()
            must_start_anew.set()
            stop_requested.set()

    pings = asyncio.ensure_future(_keep_pinging(service_manager))
    with signals.on_stop(stop), _on_hangup(reload):
        await _work_again_and_again(app, stop_requested, service_manager, **options)
    pings.cancel()


async def _work_again_and_again(
    app: App, stop_requested: asyncio.Event, service_manager: ServiceManager, **options: Any
) -> None:
    """Work until a stop is requested, or no job is left."""
    pause = 0.0
    while True:
        started = time.monotonic()
        await _work_once(app, stop_requested, **options)
        if stop_requested.is_set() or options.get("wait") is False:
            return
        lasted = time.monotonic() - started
        pause = 1.0 if lasted > SECONDS_TO_BE_STABLE else min(pause * 2 or 1.0, LONGEST_PAUSE)
        log.warning("The worker begins anew in %.0f s.", pause)
        service_manager.send("STATUS=Waiting for the database.")
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
        chain = causes(error)
        if not any(is_outage(cause) or isinstance(cause, STRUCK_OFF) for cause in chain):
            raise
        if options.get("wait") is False:
            raise
        log.warning("The worker has lost its database: %s", chain[-1])
    if options.get("wait") is not False and not stop_requested.is_set():
        await app.close_async()


async def _work_until_end(app: App, stop_requested: asyncio.Event, **options: Any) -> None:
    own: dict[str, Any] = {"install_signal_handlers": False, "worker_middleware": [log_job]}
    assert isinstance(app.job_manager, JobManagerOfWorker)
    app.job_manager.end_is_lost.clear()
    work = asyncio.ensure_future(app.run_worker_async(**own, **options))
    ends = [
        asyncio.ensure_future(stop_requested.wait()),
        asyncio.ensure_future(app.job_manager.end_is_lost.wait()),
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


# With systemd


async def _keep_pinging(service_manager: ServiceManager) -> None:
    """Say that the event loop turns. A database that is away stops no ping: it is waited for."""
    while seconds := service_manager.seconds_between_pings():
        service_manager.send_alive()
        await asyncio.sleep(seconds)


@contextmanager
def _on_hangup(reload: Callable[[], None]) -> Iterator[None]:
    """Call ``reload`` at SIGHUP, unless that is a closed terminal's, or somebody ignores it."""
    if _has_terminal() or signal.getsignal(signal.SIGHUP) is not signal.SIG_DFL:
        yield
        return
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def start_anew(service_manager: ServiceManager) -> NoReturn:
    """Run this program again, in the same process: systemd knows it by its number."""
    sys.stdout.flush()
    sys.stderr.flush()
    arguments = [sys.executable, *sys.orig_argv[1:]]
    os.execve(sys.executable, arguments, {**os.environ, **service_manager.variables()})
