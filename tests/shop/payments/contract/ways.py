"""The ways in which the middle part of a situation is gone through.

A shop may be killed at any moment, and any answer may get lost. Afterwards all goes on as it would:
the worker does its rounds, and then whoever acted acts once more.
"""

from __future__ import annotations

import http.client
import os
import signal
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any
from unittest import mock

from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper

from inventory.exceptions import InventoryError
from shop import payments
from shop.exceptions import ShopError
from shop.payments import ProviderUnavailable
from tests.concurrency import at_once

CALLS = ("start", "status", "refund", "statement", "list_since", "read_event")
MOST_POINTS = 200
CHANGES_NOTHING = ("SELECT", "SAVEPOINT", "RELEASE", "ROLLBACK")
EXPECTED = (ShopError, InventoryError)

Act = Callable[[], object]


def act_once(act: Act) -> None:
    """Act, as somebody who is told that it can't be done now, or was done before."""
    with suppress(*EXPECTED):
        act()


def twice_at_once(act: Act) -> None:
    for result in at_once([act, act]):
        if isinstance(result, Exception) and not isinstance(result, EXPECTED):
            raise result


# Answers that get lost


def lose_answer(act: Act, number: int) -> bool:
    """Act while the answer to that call of the provider gets lost; False if it calls less often."""
    with _nth_call(number, _do_and_lose) as was_met:
        act_once(act)
    return was_met.is_set()


def break_down(act: Act, number: int) -> bool:
    """Act while the provider isn't reached by that call; False if it calls less often."""
    with _nth_call(number, _not_reached) as was_met:
        act_once(act)
    return was_met.is_set()


@contextmanager
def _nth_call(number: int, meet: Callable[..., Any]) -> Iterator[threading.Event]:
    """Let one call of the provider, counted from 1, be met in another way."""
    count = 0
    was_met = threading.Event()

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any) -> Any:
            nonlocal count
            count += 1
            if count != number:
                return call(*arguments)
            was_met.set()
            return meet(call, *arguments)

        return called

    with _patched_calls(counted):
        yield was_met


@contextmanager
def _patched_calls(wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
    with ExitStack() as stack:
        for name in CALLS:
            stack.enter_context(mock.patch.object(payments, name, wrap(getattr(payments, name))))
        yield


def _do_and_lose(call: Callable[..., Any], *arguments: Any) -> None:
    result = call(*arguments)
    if isinstance(result, Iterator):
        list(result)
    raise ProviderUnavailable("The answer got lost.")


def _not_reached(call: Callable[..., Any], *arguments: Any) -> None:
    raise ProviderUnavailable("The connection was refused.")


# A process that is killed


def kill(act: Act, point: int) -> bool:
    """Act in a process of its own, which is killed at that point; False if it ends before.

    There is a point at the beginning, and after each step that lasts: a commit that has written
    something, a statement that commits by itself, and an answer to a request by HTTP that may have
    changed something. One more is before each such commit, with all locks taken. At all other
    moments, such as before and after a call of the provider, nothing lasting has changed since.
    """
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads of ours wait only
        child = os.fork()
    if not child:
        _act_and_die(act, point, writing)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    assert not said, said
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def _act_and_die(act: Act, point: int, writing: int) -> None:
    """In the child: act in a thread, which has connections of its own, and never return."""

    def run() -> None:
        try:
            with _dying_at(point):
                act_once(act)
        except BaseException:
            os.write(writing, traceback.format_exc().encode())

    try:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    finally:
        os._exit(0)  # without any farewell


@contextmanager
def _dying_at(point: int) -> Iterator[None]:
    left = point
    has_written = False  # in the transaction under way

    def pass_point() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def statement(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal has_written
        result = execute(sql, params, many, context)
        if not sql.lstrip().upper().startswith(CHANGES_NOTHING):
            if connection.in_atomic_block:
                has_written = True
            else:
                pass_point()
        return result

    def commit(database: Any) -> None:
        nonlocal has_written
        if has_written:
            pass_point()
        commit_really(database)
        if has_written:
            pass_point()
        has_written = False

    def answer(request: Any, *arguments: Any, **options: Any) -> Any:
        received = answer_really(request, *arguments, **options)
        if request._method != "GET":
            pass_point()
        return received

    answer_really = http.client.HTTPConnection.getresponse
    commit_really = BaseDatabaseWrapper._commit  # type: ignore[attr-defined]
    with (
        mock.patch.object(http.client.HTTPConnection, "getresponse", answer),
        mock.patch.object(BaseDatabaseWrapper, "_commit", commit),
        connection.execute_wrapper(statement),
    ):
        pass_point()
        yield
