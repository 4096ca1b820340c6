"""The time by the database's clock, the only one that decides: a web machine's may be wrong."""

from __future__ import annotations

from datetime import datetime

from django.db import connection


def read_clock() -> datetime:
    """The database's time, by one round trip."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        now: datetime = cursor.fetchone()[0]
        return now
