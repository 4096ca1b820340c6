"""The world around the sessions while they are explored: connections, caches, pauses."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import threading
import time
from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.cache import caches
from django.db import connections

from .current import responsible_session
from .errors import Misuse
from .server import Server, check_direct, check_server, check_vendor
from .session import Session


def check_transcripts() -> None:
    """Raise Misuse now, rather than an ImportError when there is something to show."""
    if importlib.util.find_spec("rich") is None:
        raise Misuse("Races are shown by the package “rich”, which isn't there: pip install rich")


def check_connection(using: str) -> None:
    """Raise Misuse if the sessions' connections could not be held at gates."""
    check_vendor(using)
    connection = connections[using]
    if connection.settings_dict.get("OPTIONS", {}).get("pool"):
        raise Misuse(
            'The connection has a pool (OPTIONS["pool"]): sessions must not share connections. '
            "Switch it off in the settings that races run with."
        )
    if connection.in_atomic_block or not connection.get_autocommit():
        raise Misuse(
            "A transaction is open: other connections would see nothing of what setup() writes. "
            "Use TransactionTestCase, or @pytest.mark.django_db(transaction=True), instead of "
            "TestCase or plain django_db; and call explore() outside transaction.atomic()."
        )
    if isinstance(threading.current_thread(), Session):
        raise Misuse("explore() can't be called from within a session.")
    check_server(using)
    check_direct(using)


@contextlib.contextmanager
def committing_without_sync(using: str) -> Iterator[None]:
    """Let the caller's commits return before they are on disk, because setup runs very often."""
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT current_setting('synchronous_commit')")
        [before] = cursor.fetchone()
        cursor.execute("SELECT set_config('synchronous_commit', 'off', false)")
    try:
        yield
    finally:
        if not connections[using].in_atomic_block:
            with connections[using].cursor() as cursor:
                cursor.execute("SELECT set_config('synchronous_commit', %s, false)", [before])


@contextlib.contextmanager
def without_pauses() -> Iterator[None]:
    """Let sleep() return at once in sessions: a pause before another try is no step."""
    sleep, sleep_in_loop = time.sleep, asyncio.sleep

    def sleep_outside_sessions(seconds: float) -> None:
        if responsible_session() is None:
            sleep(seconds)

    async def sleep_in_loop_outside_sessions(delay: float, result: Any = None) -> Any:
        return await sleep_in_loop(delay if responsible_session() is None else 0, result)

    time.sleep = sleep_outside_sessions  # type: ignore[assignment]
    asyncio.sleep = sleep_in_loop_outside_sessions
    try:
        yield
    finally:
        time.sleep, asyncio.sleep = sleep, sleep_in_loop


def clear_caches() -> None:
    """Clear all of Django's caches: what one schedule left there would change the next one."""
    for alias in settings.CACHES:
        try:
            caches[alias].clear()
        except Exception as error:
            raise Misuse(
                f"The cache “{alias}” can't be cleared before each schedule: {error!r}. Use the "
                "memory's cache in the settings that races run with; or say clear_caches=False, "
                "and let setup() clear what must be cleared."
            ) from error


def fill_cache_of_content_types(using: str, server: Server) -> None:
    """Let Django look up all content types: in memory it keeps them for good.

    Otherwise a session would look one up in the first schedule that needs it, and not again.
    """
    if not apps.is_installed("django.contrib.contenttypes"):
        return
    from django.contrib.contenttypes.models import ContentType

    if ContentType._meta.db_table in server.tables:
        manager = ContentType.objects.db_manager(using)
        models = [each.model_class() for each in manager.all()]
        manager.get_for_models(*(model for model in models if model is not None))
