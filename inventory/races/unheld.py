"""Notices SQL that passes no gate: of other threads, and on other connections.

Only the statements on a session's own connection, in its own thread, are held. Others would run at
any time, and no schedule would show them. So sessions that send any are refused. Threads that no
session has started are only noted: nobody knows whether they have to do with the sessions.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.process import BaseProcess
from typing import Any

import psycopg.generators
from django.db.backends.base.base import BaseDatabaseWrapper

from .current import responsible_session
from .errors import Misuse
from .places import place_outside
from .session import Session


class UnheldSql:
    """Watches all database connections of this process while sessions run."""

    def __init__(self, using: str) -> None:
        self._using = using
        self._explorers_thread = threading.current_thread()
        self._misuse: Misuse | None = None
        self._starters: dict[str, None] = {}
        """Sessions that started a process."""
        self._bystanders: dict[str, None] = {}
        """Threads that used a database meanwhile, and that no session has started, by name."""

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Watch from here to the end of the block."""
        ensure_connection = BaseDatabaseWrapper.ensure_connection
        start, submit = threading.Thread.start, ThreadPoolExecutor.submit
        connecting, start_child = psycopg.generators.connect, BaseProcess.start

        def watched_ensure_connection(connection: BaseDatabaseWrapper) -> None:
            self._look_at(connection)
            ensure_connection(connection)

        def watched_connecting(*args: Any, **kwargs: Any) -> Any:
            self._look_at_psycopg()
            return connecting(*args, **kwargs)

        def start_known(thread: threading.Thread) -> None:
            session = responsible_session()
            if session is not None:
                thread.run = self._silenced(session.adopted(thread.run))  # type: ignore[method-assign]
            start(thread)

        def submit_known(
            pool: ThreadPoolExecutor, call: Callable[..., Any], /, *args: Any, **kwargs: Any
        ) -> Future[Any]:
            session = responsible_session()
            return submit(pool, session.adopted(call) if session else call, *args, **kwargs)

        def start_process(process: BaseProcess) -> None:
            session = responsible_session()
            if session is not None:
                self._starters[session.label] = None
            start_child(process)

        with (
            replaced(BaseProcess, "start", start_process),
            replaced(BaseDatabaseWrapper, "ensure_connection", watched_ensure_connection),
            replaced(psycopg.generators, "connect", watched_connecting),
            replaced(threading.Thread, "start", start_known),
            replaced(ThreadPoolExecutor, "submit", submit_known),
        ):
            yield

    def check(self) -> None:
        """Raise Misuse if a session, or a thread that one has started, was refused."""
        if self._misuse is not None:
            raise self._misuse

    def notes(self) -> list[str]:
        """Sentences on SQL that ran beside the sessions."""
        processes = [
            f"{name} started another process, whose statements are neither held nor seen."
            for name in self._starters
        ]
        return processes + [
            f"The thread “{name}” used a database while the sessions ran. Its statements were not "
            "held."
            for name in self._bystanders
        ]

    def _look_at(self, connection: BaseDatabaseWrapper) -> None:
        """Called whenever any connection is about to be used, in the thread that uses it."""
        thread = threading.current_thread()
        session = responsible_session()
        if isinstance(thread, Session):
            if connection is not thread.connection:
                raise self._refuse(thread, another_connection(thread, connection, self._using))
        elif session is not None:
            raise self._refuse(session, another_thread(session, thread))
        elif thread is not self._explorers_thread:
            self._bystanders[thread.name] = None

    def _look_at_psycopg(self) -> None:
        """Called whenever psycopg connects, also for Django."""
        session = responsible_session()
        if session is not None and not session.is_quiet:
            raise self._refuse(
                session,
                f"Session {session.label} connects to PostgreSQL by psycopg itself "
                f"({place_outside(sys._getframe())}). Only statements on Django's connection can "
                "be held: use that one.",
            )

    def _silenced(self, run: Callable[[], None]) -> Callable[[], None]:
        """The thread's run(), without a message of its own where it ends by a refusal."""

        def silenced_run() -> None:
            try:
                run()
            except Misuse as misuse:
                if misuse is not self._misuse:
                    raise

        return silenced_run

    def _refuse(self, session: Session, message: str) -> Misuse:
        """Note the refusal: code may catch it where it is raised."""
        session.misuse = self._misuse = Misuse(message)
        return self._misuse


@contextlib.contextmanager
def replaced(owner: object, name: str, method: Callable[..., Any]) -> Iterator[None]:
    """Put a method of the explorer in the place of one of Django's or Python's."""
    before = getattr(owner, name)
    setattr(owner, name, functools.wraps(before)(method))
    try:
        yield
    finally:
        setattr(owner, name, before)


def another_connection(session: Session, connection: BaseDatabaseWrapper, using: str) -> str:
    """The message for a session that uses another connection than its own."""
    place = place_outside(sys._getframe())
    if connection.alias == using:
        return (
            f"Session {session.label} opens a second connection to “{using}” ({place}). Only "
            f'statements on connections["{using}"] can be held: use that one.'
        )
    return (
        f"Session {session.label} uses the database “{connection.alias}” ({place}). Only "
        f"statements on “{using}” can be held. For this test, send them all there (for a replica: "
        f"@override_settings(DATABASE_ROUTERS=[])); or explore using=“{connection.alias}”, with "
        "sessions that use nothing else."
    )


def another_thread(session: Session, thread: threading.Thread) -> str:
    """The message for a session that uses the database in another thread than its own."""
    return (
        f"Session {session.label} uses the database in another thread, “{thread.name}” "
        f"({place_outside(sys._getframe())}). Statements there can't be held. Call the function in "
        "the session itself, or make it a session of its own; run a coroutine by async_to_sync(), "
        "not by asyncio.run()."
    )
