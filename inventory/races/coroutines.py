"""Coroutines as sessions: an event loop beside the session's thread, and its SQL in that thread.

Django's ORM sends the queries of a coroutine from the thread in which ``async_to_sync`` waits for
it. That is the session's thread here, so they pass its gate, like those of ordinary functions.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import os
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import async_to_sync

from .errors import Misuse

P = ParamSpec("P")
R = TypeVar("R")
Cancel = Callable[[], None]


def finished(value: Any, begun: Callable[[Cancel], None] = lambda cancel: None) -> Any:
    """Return ``value``; of a coroutine, wait for its result in this thread.

    ``begun`` gets a function, which cancels the coroutine from any thread.
    """
    return async_to_sync(result_of)(value, begun) if inspect.isawaitable(value) else value


async def result_of(awaitable: Awaitable[Any], begun: Callable[[Cancel], None]) -> Any:
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None

    def cancel() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: it has ended
            loop.call_soon_threadsafe(task.cancel)

    begun(cancel)
    try:
        result = await awaitable
    except Exception:
        await others_than(task)
        raise
    await others_than(task)
    return result


async def others_than(task: asyncio.Task[Any]) -> None:
    """Wait for the tasks that the coroutine has started.

    In a server they go on when the response is sent. Here the loop would end, and cancel them.
    """
    while tasks := asyncio.all_tasks() - {task}:
        await asyncio.wait(tasks)


def waited_for(call: Callable[P, R]) -> Callable[P, R]:
    """Return the function; of a coroutine function, an ordinary one. Else nothing would run."""

    @functools.wraps(call)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        result: R = finished(call(*args, **kwargs))
        return result

    return called


def check_no_loop() -> None:
    """Raise Misuse in a coroutine: it would stand still, and Django's connections refuse to work.

    Playwright, too, leaves an event loop running between its calls. Its users tell Django so.
    """
    if asyncio._get_running_loop() is not None and not os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE"):
        raise Misuse(
            "explore() can't be called in a coroutine. Make the test an ordinary function (def); "
            "its sessions may be coroutines (async def)."
        )
