"""A reload without a gap: SIGHUP starts new processes, and the old ones end once these answer.

By itself gunicorn stops the old ones first, and forks the new ones from a master that has read the
old settings. Here each new process is a fresh Python (fresh_worker.py): it has the code, packages
and settings that are on the disk now. If one of them can't start, the old ones go on.

The master itself stays as it was started. Only a restart changes the address it listens at, the
number of its processes, their timeout, and gunicorn's version.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

SECONDS_TO_START = 60.0
STOPS = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}


def replace_processes(server: Any) -> bool:
    """Replace all processes of gunicorn's master by new ones; or by none, and return False."""
    old = list(server.WORKERS)
    server.log.info("Reload: %s new processes start.", server.num_workers)
    new = start(server)
    keep_watch(server, SECONDS_TO_START, lambda: have_answered(server, new) or is_gone(server, new))
    if have_answered(server, new):
        stop(server, old)
        server.log.info("The shop is reloaded.")
        return True
    stop(server, new)
    server.log.error("The reload has failed, see above. The old processes go on serving.")
    return False


def start(server: Any) -> Sequence[int]:
    """Fork new processes; return their process ids."""
    server.is_reloading = True
    try:
        return [server.spawn_worker() for _ in range(server.num_workers)]
    finally:
        server.is_reloading = False


def have_answered(server: Any, pids: Sequence[int]) -> bool:
    """Whether all of them serve."""
    workers = [server.WORKERS.get(pid) for pid in pids]
    return all(worker and seconds_since_a_sign(worker) is not None for worker in workers)


def is_gone(server: Any, pids: Sequence[int]) -> bool:
    """Whether one of them has ended."""
    return any(pid not in server.WORKERS for pid in pids)


def stop(server: Any, pids: Sequence[int]) -> None:
    """End them and wait for it, since gunicorn would stop the oldest of too many processes."""
    for number, seconds in ((signal.SIGTERM, server.cfg.graceful_timeout), (signal.SIGKILL, 5.0)):
        for pid in pids:
            if pid in server.WORKERS:
                server.kill_worker(pid, number)
        keep_watch(server, seconds, lambda: not any(pid in server.WORKERS for pid in pids))


def keep_watch(server: Any, seconds: float, is_over: Callable[[], bool]) -> None:
    """Do what gunicorn does all the time, until it is over, or the shop is to stop.

    Signals that come meanwhile are handled afterwards.
    """
    deadline = time.monotonic() + seconds
    postponed: list[int] = []
    while not is_over() and time.monotonic() < deadline and not STOPS.intersection(postponed):
        signals = server.wait_for_signals(timeout=0.2)
        postponed += [number for number in signals if number != signal.SIGCHLD]
        server.reap_workers()
        server.murder_workers()
        server.report_state()
    for number in postponed:
        server.SIG_QUEUE.put(number)


def seconds_since_a_sign(worker: Any) -> float | None:
    """How long ago the process's main loop last turned; None if it doesn't take requests yet.

    It leaves the sign as a file's time, by the monotonic clock. A new file has the time of day.
    """
    seconds = time.monotonic() - float(worker.tmp.last_update())
    return None if seconds < 0 else seconds
