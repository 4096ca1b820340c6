"""Fails a test that leaves a connection to the database open, and not another one later.

Such a connection is a session of the server until the garbage collector finds it, whenever that
is. Then its warning fails the test that runs at that moment.
"""

from __future__ import annotations

import sys
import threading
import time
import weakref
from collections.abc import Generator
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import psycopg
import pytest
from django.db import connections

OURS = f"{Path(__file__).resolve().parents[1]}/"
MOST_LINES = 6  # of the code that made a connection
SECONDS_TO_CLOSE = 5.0  # for a thread that works when the test is over, such as a server's

Connection = psycopg.BaseConnection[Any]


class Made(NamedTuple):
    """A connection that was made."""

    connection: weakref.ref[Connection]
    thread: threading.Thread
    place: str

    def is_open(self) -> bool:
        connection = self.connection()
        return connection is not None and not connection.closed


_made: list[Made] = []
"""The connections that the test under way has made. Threads add to it."""


def pytest_configure() -> None:
    """Note each connection that is made, by whatever library and thread."""
    kind: Any = psycopg.BaseConnection
    make = kind.__init__

    @wraps(make)
    def make_and_note(connection: Connection, *arguments: Any, **options: Any) -> None:
        make(connection, *arguments, **options)
        _made.append(Made(weakref.ref(connection), threading.current_thread(), _place()))

    kind.__init__ = make_and_note


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any]) -> Generator[None, Any, Any]:
    """Connections of a module's or a session's fixture may stay open after the first test."""
    before = len(_made)
    value = yield
    if fixturedef.scope != "function":
        del _made[before:]
    return value


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown() -> Generator[None, Any, Any]:
    """Look for open connections once all fixtures of the test are done."""
    value = yield
    if places := close_those_left():
        pytest.fail(
            "The test has left connections to the database open. They were made in\n"
            + "\n".join(places),
            pytrace=False,
        )
    return value


def close_those_left() -> list[str]:
    """Close the connections that the test has left open; return where they were made.

    Django's connection of our own thread stays open from test to test. A thread that works on has
    some time to close its own, and keeps it if it goes on.
    """
    made, _made[:] = list(_made), []
    ours = [each.connection for each in connections.all(initialized_only=True)]
    deadline = time.monotonic() + SECONDS_TO_CLOSE
    left = []
    for each in made:
        connection = each.connection()
        if connection in ours:
            continue
        if each.thread is not threading.current_thread():
            while each.is_open() and each.thread.is_alive() and time.monotonic() < deadline:
                time.sleep(0.01)
            if each.thread.is_alive():
                continue
        if connection is not None and not connection.closed:
            connection.pgconn.finish()  # as both kinds of connections do
            left.append(each.place)
    return left


def _place() -> str:
    """The thread, and our own lines that led here, the innermost first."""
    lines: list[str] = []
    frame: FrameType | None = sys._getframe(2)
    while frame and len(lines) < MOST_LINES:
        file = frame.f_code.co_filename
        if file.startswith(OURS) and "site-packages" not in file:
            lines.append(f"{file.removeprefix(OURS)}:{frame.f_lineno}")
        frame = frame.f_back
    return f"{threading.current_thread().name}: {', '.join(lines)}"
