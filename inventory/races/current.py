"""The session that runs the present code: to be found from anywhere below its call.

A session's code can leave its thread and come back (coroutines), and can leave it for good
(threads and executors that it starts). Both are told apart here.
"""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .session import Session

RUNNING: ContextVar[Session | None] = ContextVar("races_running", default=None)
"""The session that goes on here. Coroutines take it with them from thread to thread."""
STARTED_BY: ContextVar[Session | None] = ContextVar("races_started_by", default=None)
"""The session that started this thread, or that gave this work to an executor."""


def running_session() -> Session | None:
    """The session that waits for the present code to go on; None outside of sessions."""
    return RUNNING.get()


def responsible_session() -> Session | None:
    """The session that runs the present code, or has started its thread; None elsewhere."""
    own: Session | None = getattr(threading.current_thread(), "own_session", None)
    return own or STARTED_BY.get() or RUNNING.get()
