"""Says on a line of a terminal how far an exploration is, and takes the line away at its end."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import TextIO

from rich.cells import cell_len

from .result import Result, counted, preemptions_in_words
from .shortening import cut

LATEST = 1.0  # seconds until the first words; what takes less needs none
PERIOD = 0.25  # seconds
NARROWEST = 20  # columns
SAVE, ERASE, RESTORE = "\x1b7", "\x1b[K", "\x1b8"  # the place of the cursor; the rest of the line

Watch = Callable[[Result], object]
"""``explore`` calls it with the Result, which fills up, before the first schedule."""


@contextlib.contextmanager
def progress_on(
    terminal: TextIO | None, *, room: int | None = None, title: str = ""
) -> Iterator[Watch]:
    """Show the progress during the block. Yields a function for ``explore(watch=…)``.

    ``terminal``: nothing is shown if it is None, or no terminal that can move its cursor.
    ``room``: the columns that are free behind the cursor; by default a whole line.
    ``title``: stands before the words, where there are several explorations.
    """
    if terminal is None or not terminal.isatty() or os.environ.get("TERM") == "dumb":
        yield lambda result: None
        return
    if room is None:
        room = os.get_terminal_size(terminal.fileno()).columns - 1
    progress = Progress(terminal, room, title)
    try:
        yield progress.watch
    finally:
        progress.end()


class Progress:
    """A thread that writes the progress, so that the exploration itself knows nothing of it."""

    def __init__(self, terminal: TextIO, room: int, title: str) -> None:
        self._terminal = terminal
        self._room = room
        self._title = f"{title}: " if title else ""
        self._result: Result | None = None
        self._began = time.monotonic()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._write, name="races progress", daemon=True)

    def watch(self, result: Result) -> None:
        """Begin with this result, or go on with it: there may be one exploration after another."""
        self._result = result
        self._began = time.monotonic()
        if self._thread.ident is None and self._room >= NARROWEST:
            self._thread.start()

    def end(self) -> None:
        self._is_over.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _write(self) -> None:
        if self._is_over.wait(LATEST):
            return
        while not self._is_over.is_set():
            assert self._result is not None
            seconds = time.monotonic() - self._began
            words = in_words(self._result, seconds, self._room - 1 - cell_len(self._title))
            line = cut(f"{self._title}{words}", self._room - 1)
            self._send(f"{SAVE} {line}{ERASE}{RESTORE}")
            self._is_over.wait(PERIOD)
        self._send(ERASE)

    def _send(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # the terminal is gone: nobody looks
            self._terminal.write(text)
            self._terminal.flush()


def in_words(result: Result, seconds: float, room: int) -> str:
    """As “412 schedules, 0 broken, at most 1 preemption, 12 s”; in less room, less of it."""
    time_so_far = f"{seconds:.0f} s"
    if not result.runs:
        parts = ["one session after the other"]
    else:
        parts = [counted(result.schedules, "schedule"), f"{len(result.broken)} broken"]
        parts.append(extent(result))
    while len(parts) > 1 and len(", ".join([*parts, time_so_far])) > room:
        parts.pop()
    return ", ".join([*parts, time_so_far])


def extent(result: Result) -> str:
    if result.sampled:
        return f"{result.sampled} at random"
    most = max(run.preemptions for run in list(result.runs))
    return f"at most {preemptions_in_words(most)}" if most else "no preemptions"
