"""Fails a test that leaves a connection to the database open, and not another one later.

Such a connection is a session of the server until the garbage collector finds it, whenever that
is. Then its warning fails the test that runs at that moment.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Generator
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Any

import psycopg
import pytest
from django.db import connections

OURS = f"{Path(__file__).resolve().parents[1]}/"
MOST_LINES = 6  # of the code that made a connection

Connection = psycopg.BaseConnection[Any]
_made: list[tuple[weakref.ref[Connection], str]] = []
"""The connections that the test under way has made, and where. Threads add to it."""


def pytest_configure() -> None:
    """Note each connection that is made, by whatever library and thread."""
    kind: Any = psycopg.BaseConnection
    make = kind.__init__

    @wraps(make)
    def make_and_note(connection: Connection, *arguments: Any, **options: Any) -> None:
        make(connection, *arguments, **options)
        _made.append((weakref.ref(connection), _place()))

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

    Django's connection of our own thread stays open from test to test.
    """
    made = [(connection, place) for noted, place in _made if (connection := noted())]
    _made.clear()
    ours = [each.connection for each in connections.all(initialized_only=True)]
    left = [each for each in made if not each[0].closed and each[0] not in ours]
    for connection, _ in left:
        connection.pgconn.finish()  # as both kinds of connections do
    return [place for _, place in left]


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
