"""Several callers at the same instant, each on a thread and a connection of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.db import connection
from django.db.models.functions import Now

from inventory.models import Reservation


def at_once(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Start all calls together; return the result of each, or the exception that it raised.

    Every caller has a connection to the database before the first one starts.
    """
    gate = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        try:
            connection.ensure_connection()
            gate.wait(timeout=60)
            return call()
        except Exception as error:
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def of_kind(results: list[Any], kind: type) -> list[Any]:
    """The results of this class."""
    return [result for result in results if isinstance(result, kind)]


def lapse(reservation: Reservation) -> Reservation:
    """Set the hold's end to a moment ago, by the database's clock."""
    Reservation.objects.filter(pk=reservation.pk).update(expires_at=Now())
    return reservation


def wait_until_somebody_waits_for_a_lock(seconds: float = 60, *, number: int = 1) -> None:
    """Return as soon as this number of other connections to the database wait for a lock."""
    deadline = time.monotonic() + seconds
    with connection.cursor() as cursor:
        while time.monotonic() < deadline:
            cursor.execute("SELECT pg_stat_clear_snapshot()")  # a transaction sees the same one
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            [waiting] = cursor.fetchone()
            if waiting >= number:
                return
            time.sleep(0.01)
    raise AssertionError(f"there are no {number} who wait for a lock")
