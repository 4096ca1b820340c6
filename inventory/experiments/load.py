"""Jobs in many processes and threads, which all start at the same instant.

The parent starts the processes (``Processes``) and sends a job to each. Each process gives every
thread of its job a connection, reports that it is ready, and waits for the start: an instant on
the system's monotonic clock, which all processes share.

The first half of this module runs in the parent, the second in the spawned processes. So the
module must be importable before Django is set up.
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
    """The processes could not get ready. The message says why."""


class Job(ABC):
    """The work of a process. The parent pickles it, and ``threads`` threads run it."""

    threads: int
    thread_noun: ClassVar[str] = "workers"
    """The word for the threads in messages."""

    def prepare(self) -> None:  # noqa: B027  (not every job needs it)
        """Run once in the process, before its threads start."""

    def connect(self) -> None:
        """Prepare a thread before the start: by default, connect to the database."""
        connection().ensure_connection()

    @abstractmethod
    def work(self, start: float) -> None:
        """Run in each thread, from ``start`` on the monotonic clock."""

    @abstractmethod
    def reports(self) -> Iterable[object]:
        """Hand out the reports for the parent so far, while the threads go on working."""

    def finish(self) -> None:  # noqa: B027
        """Run once after the threads have ended, before the last reports are sent."""


# In the parent


class Processes:
    """Processes that run jobs. Dead processes are replaced before the next jobs."""

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
        on_report: Callable[[Job, Any], object],
        on_death: Callable[[Job, str], object],
    ) -> None:
        """Run one of ``jobs`` in each process, all from the same instant, until all are done.

        ``on_report`` gets a job and each of its reports. ``on_death`` gets the job of a process
        that died, and the reason. An exception ends all processes. Raises NotReady.
        """
        self._processes = [each if each.is_alive() else self._start() for each in self._processes]
        try:
            self._run(jobs, on_report, on_death)
        except BaseException:
            self.close()  # nobody reads their reports any more
            raise

    def _run(
        self,
        jobs: Sequence[Job],
        on_report: Callable[[Job, Any], object],
        on_death: Callable[[Job, str], object],
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
                    on_death(job, each.exit_reason())
                    continue
                if report is None:
                    del at_work[pipe]
                else:
                    on_report(job, report)

    def _wait_until_ready(self, jobs: Sequence[Job]) -> None:
        deadline = time.monotonic() + SECONDS_TO_GET_READY
        for each, job in zip(self._processes, jobs, strict=True):
            if not each.pipe.poll(max(0.0, deadline - time.monotonic())):
                raise NotReady(
                    f"The {job.thread_noun} were not ready within {SECONDS_TO_GET_READY} seconds. "
                    "Try fewer of them."
                )
            try:
                problem = each.pipe.recv()
            except EOFError:
                raise NotReady(
                    f"A process of {job.thread_noun} ended: {each.exit_reason()}."
                ) from None
            if problem:
                raise NotReady(f"The {job.thread_noun} can't connect: {problem}")

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
        with _signals_blocked():
            self.process.start()
        theirs.close()

    def is_alive(self) -> bool:
        if self.process.is_alive():
            return True
        self.end()
        return False

    def send(self, start: float) -> None:
        """Send the instant of the start. If the process has died, the next read notices it."""
        with suppress(BrokenPipeError):
            self.pipe.send(start)

    def exit_reason(self) -> str:
        self.process.join()
        code = self.process.exitcode or 0
        return f"killed by signal {-code}" if code < 0 else f"exit code {code}"

    def end(self) -> None:
        self.pipe.close()
        self.process.terminate()
        self.process.join()


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Block SIGINT for processes that start in the block, from their first import on.

    Ctrl-C is for the parent, which ends the processes. The parent handles SIGINT and SIGTERM after
    the block: else it could end a process that has only half started, which would print errors.
    """
    with _signals_deferred(signal.SIGINT, signal.SIGTERM):
        resource_tracker.ensure_running()  # it unblocks signals when it starts, so start it first
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield  # a new process inherits the blocked signals
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


@contextmanager
def _signals_deferred(*numbers: signal.Signals) -> Iterator[None]:
    """Handle these signals after the block, not in it."""
    if threading.current_thread() is not threading.main_thread():
        yield  # handlers run in the main thread alone
        return
    arrived: list[int] = []
    before = {
        number: signal.signal(number, lambda number, frame: arrived.append(number))
        for number in numbers
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for each in arrived:
            signal.raise_signal(each)


@contextmanager
def processes(number: int, application_name: str) -> Iterator[Processes]:
    """Start ``number`` processes for the length of the block, with connections of that name."""
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
    """Run jobs for ``parent`` until it closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    os.environ["DJANGO_SETTINGS_MODULE"] = settings_module
    import django

    django.setup()
    ours = connections.settings[alias()]
    ours["NAME"] = database  # in a test it is not the one of the settings
    settings.INVENTORY_STRATEGIES = strategies  # a test may have changed them, too
    ours["OPTIONS"] = {**ours.get("OPTIONS", {}), "application_name": application_name}
    try:
        while True:
            _do_job(parent.recv(), parent)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        os._exit(0)  # at once, with all threads: nobody waits for their results


def _do_job(job: Job, parent: Connection) -> None:
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
        parent.send(str(error))  # then the parent ends us
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
