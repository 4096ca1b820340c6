"""The conditions under which a benchmark ran: its figures say little without them."""

from __future__ import annotations

import os
import platform
import statistics
import time

from inventory.database import connection
from inventory.words import counted

COMMITS = 50


def conditions() -> str:
    """The machine in a sentence: processors, and PostgreSQL with its time for a commit."""
    with connection().cursor() as cursor:
        cursor.execute(
            "SELECT current_setting('server_version'), current_setting('fsync'),"
            " current_setting('synchronous_commit')"
        )
        version, fsync, synchronous_commit = cursor.fetchone()
    processors = counted(os.cpu_count() or 1, "processor")
    return (
        f"{processors}, {platform.machine()}; Python {platform.python_version()}; "
        f"PostgreSQL {version.split()[0]}, fsync {fsync}, synchronous_commit "
        f"{synchronous_commit}, {_commit_ms():.2f} ms for a commit."
    )


def _commit_ms() -> float:
    """The median time of a commit that writes next to nothing, in milliseconds."""
    times = []
    with connection().cursor() as cursor:
        for _ in range(COMMITS):
            begun = time.perf_counter()
            cursor.execute("SELECT pg_logical_emit_message(true, 'benchmark', '')")
            times.append(time.perf_counter() - begun)
    return 1000 * statistics.median(times)
