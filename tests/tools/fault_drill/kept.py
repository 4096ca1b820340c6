"""Programs that are started again whenever they end, as systemd does it (``Restart=always``)."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psutil

SECONDS_BETWEEN_STARTS = 0.3
SECONDS_TO_END = 30


class Kept:
    """A program that leads a session of its own, and is kept running from ``start`` to ``stop``.

    If it is killed, its orphans are ended before the next start, as systemd ends all processes of
    a unit; or they stay, if ``leaves_orphans``.
    """

    def __init__(self, name: str, run: Callable[[], Any], end: int = signal.SIGTERM) -> None:
        """``run`` starts the program and returns it (a Popen). ``end`` is the signal to end it."""
        self.name = name
        self.starts = 0
        self.leaves_orphans = False
        self._run = run
        self._end = end
        self._program: Any = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)

    @property
    def pid(self) -> int:
        """The number of its first process; of the last one while it is down."""
        return int(self._program.pid)

    @property
    def process(self) -> psutil.Process:
        """Its first process. Raises psutil.NoSuchProcess while it is down."""
        return psutil.Process(self.pid)

    def start(self) -> None:
        self._begin()
        self._thread.start()

    def is_running(self) -> bool:
        return self._program is not None and self._program.poll() is None

    def kill(self, how: int = signal.SIGKILL) -> None:
        """Send a signal to its first process alone."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, how)

    def stop(self) -> None:
        """End it gracefully, or after a while by force."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._program is None:
            return
        self.kill(signal.SIGCONT)
        self.kill(self._end)
        deadline = time.monotonic() + SECONDS_TO_END
        while self.is_running() and time.monotonic() < deadline:
            time.sleep(0.02)
        end_session(self.pid, signal.SIGKILL)
        self._program.wait()

    def _keep(self) -> None:
        while not self._stopping.wait(0.05):
            if self.is_running():
                continue
            if not self.leaves_orphans:
                end_orphans(self.pid)
            if not self._stopping.wait(SECONDS_BETWEEN_STARTS):
                self._begin()

    def _begin(self) -> None:
        self._program = self._run()
        self.starts += 1


def end_orphans(session: int) -> None:
    """End what is left of a session: gracefully, or after some seconds by force."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        end_session(session, how)
        deadline = time.monotonic() + 5
        while members_of(session) and time.monotonic() < deadline:
            time.sleep(0.05)


def end_session(session: int, how: int) -> None:
    for each in members_of(session):
        with suppress(psutil.NoSuchProcess):
            each.send_signal(how)


def members_of(session: int) -> list[psutil.Process]:
    """The living processes of a session, by the number of its first process."""
    found = []
    for each in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if os.getsid(each.pid) == session and each.status() != psutil.STATUS_ZOMBIE:
                found.append(each)
    return found
