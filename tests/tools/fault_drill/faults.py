"""The kinds of faults. Each begins at a random point, and is healed after some seconds."""

from __future__ import annotations

import abc
import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import psutil
import psycopg

from tests.tools.fault_drill.machines import Machines
from tests.tools.fault_drill.mail import Manner
from tests.tools.fault_drill.postgres import ROLE

HOUR = 3600
FAKETIME = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
)


class Fault(abc.ABC):
    """Something that goes wrong. The programs must come back without anybody's help."""

    kind: ClassVar[str]
    """Its name on the command line."""

    def __init__(self, machines: Machines, chance: random.Random) -> None:
        self.machines = machines
        self.chance = chance
        self.detail = ""
        """The fault in words, with all that was left to chance."""

    def __str__(self) -> str:
        return f"{self.kind} ({self.detail})" if self.detail else self.kind

    @classmethod
    def obstacle(cls, machines: Machines) -> str:
        """Why this machine can't have it; empty if it can."""
        return ""

    @abc.abstractmethod
    def begin(self) -> None:
        """Let it happen."""

    def heal(self) -> None:
        """End it. Most kinds end by themselves."""
        return


class KillWebProcess(Fault):
    kind = "kill-web-process"

    def begin(self) -> None:
        with suppress(psutil.NoSuchProcess, IndexError):
            self.chance.choice(self.machines.web_processes()).kill()


class KillWebServer(Fault):
    """The first process of gunicorn is killed, and its children are orphans."""

    kind = "kill-web-server"

    def begin(self) -> None:
        self.machines.web.leaves_orphans = self.chance.random() < 0.5
        if self.machines.web.leaves_orphans:
            self.detail = "its orphans stay"
        self.machines.web.kill()

    def heal(self) -> None:
        self.machines.web.leaves_orphans = False


class KillWorker(Fault):
    kind = "kill-worker"

    def begin(self) -> None:
        self.machines.worker.kill()


class KillBackend(Fault):
    """PostgreSQL ends all its processes then, and recovers."""

    kind = "kill-backend"

    def begin(self) -> None:
        with suppress(psutil.NoSuchProcess, IndexError):
            self.chance.choice(self.machines.postgres.backends()).kill()


class KillPostgres(Fault):
    kind = "kill-postgres"

    def begin(self) -> None:
        self.machines.postgres.kept.kill()


class StopPostgres(Fault):
    """PostgreSQL is stopped at once, without a checkpoint, or after its transactions are ended."""

    kind = "stop-postgres"

    def begin(self) -> None:
        how = self.chance.choice([signal.SIGQUIT, signal.SIGQUIT, signal.SIGINT])
        self.detail = "immediate" if how == signal.SIGQUIT else "fast"
        self.machines.postgres.kept.kill(how)


class Freeze(Fault):
    """A process stands still, and goes on as if nothing had happened."""

    kind = "freeze"

    def begin(self) -> None:
        machines = self.machines
        targets: dict[str, Callable[[], list[psutil.Process]]] = {
            "a web process": machines.web_processes,
            "the web server's first process": lambda: [machines.web.process],
            "the worker": lambda: [machines.worker.process],
            "a backend": machines.postgres.backends,
            "PostgreSQL's first process": lambda: [machines.postgres.kept.process],
        }
        self.detail = self.chance.choice(sorted(targets))
        self._frozen: list[psutil.Process] = []
        with suppress(psutil.NoSuchProcess, IndexError):
            process = self.chance.choice(targets[self.detail]())
            process.suspend()
            self._frozen.append(process)

    def heal(self) -> None:
        for process in self._frozen:
            with suppress(psutil.NoSuchProcess):
                process.resume()


class TakeConnections(Fault):
    """Others take all connections to the database, and the shop loses its own."""

    kind = "take-connections"

    def begin(self) -> None:
        self._taken: list[Any] = []
        self._ended = threading.Event()
        if self.chance.random() < 0.7:
            self.detail = "the shop's own, too"
            with suppress(psycopg.Error), self.machines.postgres.connect() as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s",
                    [ROLE],
                )
        self._thread = threading.Thread(target=self._take, daemon=True)
        self._thread.start()

    def heal(self) -> None:
        self._ended.set()
        self._thread.join()
        for connection in self._taken:
            with suppress(psycopg.Error):
                connection.close()

    def _take(self) -> None:
        while not self._ended.is_set():
            try:
                self._taken.append(self.machines.postgres.connect(role=ROLE))
            except psycopg.Error:
                self._ended.wait(0.02)


class FillDisk(Fault):
    """The database's disk is full. PostgreSQL may give up if it can't write its log."""

    kind = "fill-disk"

    @classmethod
    def obstacle(cls, machines: Machines) -> str:
        if machines.disk.can_be_filled:
            return ""
        return "no file system of its own could be mounted; run the drill as root"

    def begin(self) -> None:
        self.machines.disk.fill()
        if self.chance.random() < 0.6:
            self.detail = "also of PostgreSQL's log"
            with suppress(psycopg.Error), self.machines.postgres.connect() as connection:
                for _ in range(4):
                    connection.execute("SELECT pg_switch_wal()")

    def heal(self) -> None:
        self.machines.disk.free()


class TroubleAtBank(Fault):
    kind = "bank"

    def begin(self) -> None:
        kind, seconds, self.detail = self.chance.choice(
            [
                ("slow", 1.0, "a bit slow"),
                ("slow", 6.0, "very slow"),
                ("unavailable", 0.0, "down"),
                ("connection_closed", 0.0, "closes connections"),
                ("answer_lost", 0.0, "loses its answers"),
            ]
        )
        self._number = self.machines.standin.faults.add(
            ".* /v1/.*", kind, times=None, seconds=seconds
        )

    def heal(self) -> None:
        self.machines.standin.faults.remove(self._number)


class TroubleWithMail(Fault):
    kind = "mail"

    def begin(self) -> None:
        manner = self.chance.choice(
            [Manner.DOWN, Manner.REFUSES, Manner.SILENT, Manner.CUTS, Manner.CUTS]
        )
        self.detail = f"it {manner}"
        self.machines.mail.behave(manner)

    def heal(self) -> None:
        self.machines.mail.behave(Manner.TAKES)


class WrongClock(Fault):
    """The web machine starts with a clock that is an hour wrong, and later with the right one."""

    kind = "wrong-clock"

    @classmethod
    def obstacle(cls, machines: Machines) -> str:
        return "" if faketime() else "the library libfaketime isn't installed"

    def begin(self) -> None:
        offset = self.chance.choice([HOUR, -HOUR])
        self.detail = f"{offset:+d} s"
        self.machines.web_variables = {
            "LD_PRELOAD": faketime(),
            "FAKETIME": f"{offset:+d}",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "PYTHONPATH": str(Path(__file__).parent / "other_clock"),
        }
        self._restart()
        # The fault is there only once the web server has come back.
        with suppress(TimeoutError):
            self.machines.wait_until_up()

    def heal(self) -> None:
        self.machines.web_variables = {}
        self._restart()

    def _restart(self) -> None:
        starts = self.machines.web.starts
        self.machines.web.kill(signal.SIGTERM)
        deadline = time.monotonic() + 30
        while self.machines.web.starts == starts and time.monotonic() < deadline:
            time.sleep(0.05)


def faketime() -> str:
    """The library that gives a program another clock; empty if it isn't there."""
    return next((path for path in FAKETIME if Path(path).exists()), "")


KINDS: list[type[Fault]] = [
    KillWebProcess,
    KillPostgres,
    TroubleAtBank,
    KillWorker,
    FillDisk,
    TroubleWithMail,
    KillWebServer,
    StopPostgres,
    Freeze,
    TakeConnections,
    WrongClock,
    KillBackend,
]


def possible_kinds(machines: Machines) -> tuple[list[type[Fault]], dict[str, str]]:
    """The kinds that this machine can have, and the obstacles of the others by name."""
    obstacles = {kind.kind: kind.obstacle(machines) for kind in KINDS}
    return (
        [kind for kind in KINDS if not obstacles[kind.kind]],
        {name: why for name, why in obstacles.items() if why},
    )
