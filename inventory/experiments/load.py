"""Work in processes and threads of its own, all of it let go at one instant.

The parent starts the processes (``Processes``) and sends each a job. Each process gives every
thread of the job a connection, says that it is ready, and waits for the instant at which all
start: one point on the system's monotonic clock, which all processes share.

The first half runs in the parent, the second in a process that starts from nothing (spawn):
this module must be importable before Django is set up.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, ClassVar

from django.conf import settings
from django.db import DatabaseError, connections

from inventory import conf
from inventory.database import alias, connection

SECONDS_TO_GET_READY = 60
SECONDS_TO_THE_START = 0.05  # long enough for the message to reach every process
SECONDS_BETWEEN_REPORTS = 0.05


class NotReady(Exception):
    """The processes could not get ready; the message says why."""


class Job(ABC):
    """What a process does: pickled by the parent, and run there by ``threads`` threads."""

    threads: int
    who: ClassVar[str] = "workers"
    """What the threads are, in messages."""

    def prepare(self) -> None:  # noqa: B027  (not every job needs it)
        """Do what must be done before the threads start."""

    def connect(self) -> None:
        """Give a thread what it needs before the start: by default, a connection."""
        connection().ensure_connection()

    @abstractmethod
    def work(self, start: float) -> None:
        """Do a thread's part. It has slept until ``start``, on the monotonic clock."""

    @abstractmethod
    def reports(self) -> Iterable[object]:
        """Hand out what is to be told to the parent by now, while the threads work on."""

    def finish(self) -> None:  # noqa: B027
        """Do what must be done after the threads' end; what it leaves in reports is sent."""


# In the parent


class Processes:
    """Processes that do jobs; those that died are replaced before the next ones."""

    def __init__(self, number: int, application_name: str) -> None:
        self.application_name = application_name
        self._processes: list[Process] = []
        try:
            for _ in range(number):
                self._processes.append(self._start())
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return len(self._processes)

    def close(self) -> None:
        for each in self._processes:
            each.end()

    def run(
        self,
        jobs: Sequence[Job],
        *,
        received: Callable[[Job, Any], object],
        died: Callable[[Job, str], object],
    ) -> None:
        """Let each process do one of ``jobs``, all from the same instant, until all are done.

        ``received`` is called with each report of a job; ``died`` with the job of a process that
        ended, and how it did. Broken off by an exception, it ends the processes. Raises NotReady.
        """
        self._processes = [each if each.is_alive() else self._start() for each in self._processes]
        try:
            self._run(jobs, received, died)
        except BaseException:
            self.close()  # nobody reads what they report any more
            raise

    def _run(
        self,
        jobs: Sequence[Job],
        received: Callable[[Job, Any], object],
        died: Callable[[Job, str], object],
    ) -> None:
        at_work = {}
        for each, job in zip(self._processes, jobs, strict=True):
            each.pipe.send(job)
            at_work[each.pipe] = (each, job)
        self._wait_until_ready(jobs)
        start = time.monotonic() + SECONDS_TO_THE_START
        for each in self._processes:
            each.send(start)
        while at_work:
            for pipe in wait(list(at_work)):
                assert isinstance(pipe, Connection)
                each, job = at_work[pipe]
                try:
                    report = pipe.recv()
                except (EOFError, ConnectionResetError):
                    del at_work[pipe]
                    died(job, each.how_it_ended())
                    continue
                if report is None:
                    del at_work[pipe]
                else:
                    received(job, report)

    def _wait_until_ready(self, jobs: Sequence[Job]) -> None:
        deadline = time.monotonic() + SECONDS_TO_GET_READY
        for each, job in zip(self._processes, jobs, strict=True):
            if not each.pipe.poll(max(0.0, deadline - time.monotonic())):
                raise NotReady(
                    f"The {job.who} were not ready within {SECONDS_TO_GET_READY} seconds. "
                    "Try fewer of them."
                )
            try:
                problem = each.pipe.recv()
            except EOFError:
                raise NotReady(f"A process of {job.who} ended: {each.how_it_ended()}.") from None
            if problem:
                raise NotReady(f"The {job.who} can't connect: {problem}")

    def _start(self) -> Process:
        return Process(self.application_name)


class Process:
    """One process, seen from its parent."""

    def __init__(self, application_name: str) -> None:
        context = multiprocessing.get_context("spawn")  # no connection is shared by a fork
        self.pipe, theirs = context.Pipe()
        arguments = (
            os.environ.get("DJANGO_SETTINGS_MODULE") or settings.SETTINGS_MODULE,
            connection().settings_dict["NAME"],
            conf.strategies(),
            application_name,
            theirs,
        )
        self.process: SpawnProcess = context.Process(target=main, args=arguments, daemon=True)
        with _born_deaf():
            self.process.start()
        theirs.close()

    def is_alive(self) -> bool:
        if self.process.is_alive():
            return True
        self.end()
        return False

    def send(self, start: float) -> None:
        """Send the instant of the start; a process that died meanwhile shows when it is read."""
        with suppress(BrokenPipeError):
            self.pipe.send(start)

    def how_it_ended(self) -> str:
        self.process.join()
        code = self.process.exitcode or 0
        return f"killed by signal {-code}" if code < 0 else f"exit code {code}"

    def end(self) -> None:
        self.pipe.close()
        self.process.terminate()
        self.process.join()


@contextmanager
def _born_deaf() -> Iterator[None]:
    """Let processes start that don't hear Ctrl-C, not even while they import what they need.

    It is the parent's, which ends them. The parent itself hears it, and SIGTERM, after the block:
    a process that is half started would complain of the half that it didn't get.
    """
    with _heard_later(signal.SIGINT, signal.SIGTERM):
        resource_tracker.ensure_running()  # multiprocessing's own process; starting it unblocks
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield  # a new process inherits what is blocked
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


@contextmanager
def _heard_later(*numbers: signal.Signals) -> Iterator[None]:
    """Keep what handlers of these signals would do until the block is over."""
    if threading.current_thread() is not threading.main_thread():
        yield  # handlers never run in this one
        return
    heard: list[int] = []
    before = {
        number: signal.signal(number, lambda number, frame: heard.append(number))
        for number in numbers
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for each in heard:
            signal.raise_signal(each)


@contextmanager
def processes(number: int, application_name: str) -> Iterator[Processes]:
    """``number`` processes for the length of the block, on connections of that name."""
    started = Processes(number, application_name)
    try:
        yield started
    finally:
        started.close()


# In a process


def main(
    settings_module: str,
    database: str,
    strategies: Sequence[str],
    application_name: str,
    parent: Connection,
) -> None:
    """Do jobs for ``parent`` until it hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; it ends us
    os.environ["DJANGO_SETTINGS_MODULE"] = settings_module
    import django

    django.setup()
    ours = connections.settings[alias()]
    ours["NAME"] = database  # a test's, perhaps, not the settings'
    settings.INVENTORY_STRATEGIES = strategies  # so are these
    ours["OPTIONS"] = {**ours.get("OPTIONS", {}), "application_name": application_name}
    try:
        while True:
            _do(parent.recv(), parent)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        os._exit(0)  # whatever the threads are doing: nobody wants to know any more


def _do(job: Job, parent: Connection) -> None:
    """Get every thread ready, wait for the start, and send reports as they come."""
    starting = threading.Barrier(job.threads + 1)
    started = threading.Event()
    problems: list[str] = []
    start = 0.0

    def connect_and_work() -> None:
        try:
            job.connect()
        except Exception as error:
            problems.append(str(error))
        try:
            starting.wait()
            started.wait()
            if not problems:
                time.sleep(max(0.0, start - time.monotonic()))
                job.work(start)
        finally:
            connection().close()

    try:
        job.prepare()
    except DatabaseError as error:
        parent.send(str(error))  # and the parent will end us
        return
    threads = [threading.Thread(target=connect_and_work, daemon=True) for _ in range(job.threads)]
    for thread in threads:
        thread.start()
    starting.wait()
    parent.send("; ".join(sorted(set(problems))))
    start = parent.recv()
    started.set()
    for thread in threads:
        while thread.is_alive():
            thread.join(SECONDS_BETWEEN_REPORTS)
            _report(job, parent)
    job.finish()
    _report(job, parent)
    parent.send(None)


def _report(job: Job, parent: Connection) -> None:
    for report in job.reports():
        parent.send(report)
