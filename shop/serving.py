"""Running the shop's programs side by side: together they start, together they end."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parent.parent
SECONDS_TO_END = 30  # gracefully; then they are killed

Command = Sequence[str]


def web_server(bind: str) -> Command:
    """The command line of the shop's web server, listening at ``bind`` (host:port)."""
    module = [sys.executable, "-m", "gunicorn"]
    return [*module, "-c", "python:shop.gunicorn_conf", "--bind", bind, "shop.wsgi"]


def worker() -> Command:
    """The command line of a worker that does the shop's background work."""
    return [sys.executable, "manage.py", "procrastinate", "worker"]


def run_together(commands: Sequence[Command]) -> int:
    """Run programs until one ends by itself, or we are told to; end the others gracefully.

    Returns 0 if we were told to (Ctrl-C, SIGTERM), else the exit code of the first that ended.
    """
    with _told_to_end() as told:
        programs: list[subprocess.Popen[bytes]] = []
        try:
            for command in commands:
                # In a session of its own: Ctrl-C reaches it through us, once.
                programs.append(subprocess.Popen(command, cwd=ROOT, start_new_session=True))
            while not told and all(program.poll() is None for program in programs):
                time.sleep(0.1)
            ended = [code for program in programs if (code := program.poll()) is not None]
            return 0 if told else ended[0] or 1
        finally:
            _end(programs)


@contextlib.contextmanager
def _told_to_end() -> Iterator[list[int]]:
    """A list that isn't empty any more once SIGINT or SIGTERM has come."""
    told: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        told.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(programs: Sequence[subprocess.Popen[bytes]]) -> None:
    for program in programs:
        program.terminate()
    deadline = time.monotonic() + SECONDS_TO_END
    for program in programs:
        try:
            program.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait()
