"""The cost of an act of buyers, for the database's server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import psutil

from tests.tools.dearest_statements.postgres import Cluster

SPENT = """
    SELECT pg_current_wal_lsn() - '0/0'::pg_lsn, xact_commit
    FROM pg_stat_database WHERE datname = %s
"""
CORES = 16
BUSY = 0.7  # of the cores; the rest is for peaks, VACUUM and the checkpoints


@dataclass(frozen=True)
class Cost:
    """The cost of all the acts together, for the database's server."""

    what: str
    acts: int
    processor_seconds: float
    """Of all processes of the server."""
    wal_bytes: int
    commits: int

    @property
    def ms(self) -> float:
        """The processor time of an act, in milliseconds."""
        return 1000 * self.processor_seconds / self.acts

    @property
    def of_cores(self) -> float:
        """Acts a second that CORES cores would carry, reckoned from this processor time alone."""
        return CORES * BUSY * 1000 / self.ms

    def without(self, idle: Cost) -> Cost:
        """The cost of the acts alone: less that of as long a time without any."""
        return Cost(
            self.what,
            self.acts,
            self.processor_seconds - idle.processor_seconds,
            self.wal_bytes - idle.wal_bytes,
            self.commits - idle.commits,
        )

    def __str__(self) -> str:
        kilobytes = self.wal_bytes / self.acts / 1024
        return (
            f"{self.what:30} {self.acts:8,} {self.ms:8.3f} {kilobytes:8.1f} "
            f"{self.commits / self.acts:8.2f} {self.of_cores:12,.0f} "
            f"{self.of_cores * kilobytes / 1024:8.1f}"
        )


HEADING = (
    f"{'':30} {'':>8} {'cpu ms':>8} {'WAL kB':>8} {'commits':>8} {f'{CORES} cores:':>12} "
    f"{'WAL':>8}\n{'':30} {'acts':>8} {'an act':>8} {'an act':>8} {'an act':>8} "
    f"{'acts/s':>12} {'MB/s':>8}"
)


def measure_cost(cluster: Cluster, database: str, what: str, act: Callable[[], int]) -> Cost:
    """Let buyers act; ``act`` returns how often they did."""
    before = _spent(cluster, database)
    acts = act()
    after = _spent(cluster, database)
    seconds, wal, commits = (now - then for now, then in zip(after, before, strict=True))
    return Cost(what, max(1, acts), seconds, int(wal), int(commits))


def _spent(cluster: Cluster, database: str) -> tuple[float, float, float]:
    """The processor seconds, bytes of WAL and commits of the server so far."""
    [(wal, commits)] = cluster.execute("postgres", SPENT, [database])
    return _processor_seconds(cluster.pid), float(wal), float(commits)


def _processor_seconds(pid: int) -> float:
    """Of the server's processes, those that have ended too."""
    server = psutil.Process(pid)
    own = server.cpu_times()
    total: float = own.user + own.system + own.children_user + own.children_system
    for process in server.children():
        try:
            used = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += used.user + used.system
    return total
