"""The command procrastinate: its worker survives outages of the database, and warns of poolers."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from django.conf import settings
from django.core.management import CommandError
from django.db import DatabaseError, connection
from procrastinate.contrib.django import app
from procrastinate.contrib.django.management.commands import procrastinate

from inventory.management import tables
from inventory.management.base import USAGE_ERROR
from shop.deployment import worker, worker_database
from shop.deployment.database_timeouts import SECONDS_TO_CONNECT
from shop.deployment.service_manager import READY, ServiceManager

log = logging.getLogger(__name__)

BEHIND_POOLER = (
    "The worker's connection goes through a pooler. If that pools transactions, the worker doesn't "
    "get the notices of new jobs: it finds jobs only by looking every few seconds, and its notices "
    "reach other programs. Start it with a DATABASE_URL that leads to PostgreSQL directly."
)


class Command(procrastinate.Command):
    def handle(self, *args: Any, **options: Any) -> None:
        if options.get("command") == "worker":
            self.work(**options)
        else:
            with interrupted_at_once():
                super().handle(*args, **options)

    def work(self, **options: Any) -> None:
        if options.get("concurrency", 1) < 1:  # it would be seen alive, and do no job
            raise CommandError(
                f"concurrency: must be 1 or more, not {options['concurrency']}.",
                returncode=USAGE_ERROR,
            )
        if settings.DATABASE_URL:
            with suppress(DatabaseError):  # the worker itself waits for it, and logs that
                self.warn_behind_pooler()
        else:
            tables.ensure(log.warning, "shop")
        os.environ.setdefault("PGCONNECT_TIMEOUT", SECONDS_TO_CONNECT)
        service_manager, must_start_anew = ServiceManager(), threading.Event()
        options["func"] = partial(
            worker.work_until_stopped,
            service_manager=service_manager,
            must_start_anew=must_start_anew,
        )
        tell_systemd = partial(service_manager.send, READY, "STATUS=Working.")
        with worker_database.reached(app, tell_systemd), interrupted_at_once():
            super().handle(app=app, **options)
        if must_start_anew.is_set():
            worker.start_anew(service_manager)

    def warn_behind_pooler(self) -> None:
        """Warn only: a pooler of sessions would be right, and we can't tell the two apart."""
        try:
            if self.goes_through_pooler():
                log.warning(BEHIND_POOLER)
        finally:
            connection.close()

    def goes_through_pooler(self) -> bool:
        """Whether a pooler is in between: another process serves us than the one we reached."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            [(serves_us,)] = cursor.fetchall()
        return bool(connection.connection.info.backend_pid != serves_us)


@contextmanager
def interrupted_at_once() -> Iterator[None]:
    """Let Ctrl-C end the process at once, as SIGTERM does, until the worker handles both.

    The pool of connections takes the cancelling by asyncio's own handler for a connection that
    failed, and would go on with the next one. No job is under way while it connects.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # where handlers of signals can't be set
        return
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
