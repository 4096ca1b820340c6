"""Running the shop's programs: side by side for customers, or while a block runs."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from pathlib import Path
from types import FrameType
from typing import IO

from django.db import connection

from shop.deployment.database import url_of

ROOT = Path(__file__).resolve().parents[2]
SECONDS_TO_START = 90
SECONDS_TO_BE_STABLE = 15  # a program that ends sooner isn't started again
SECONDS_TO_END = 30  # after this time they are killed

GUNICORN_CONF = "shop.gunicorn_conf"
APP = "shop.asgi"

Command = Sequence[str]


class NotServed(Exception):
    """The shop could not be started; the message says why."""


def web_server(bind: str, gunicorn_conf: str = GUNICORN_CONF, app: str = APP) -> Command:
    """The command line of the shop's web server, listening at ``bind`` (host:port)."""
    module = [sys.executable, "-m", "gunicorn"]
    return [*module, "-c", f"python:{gunicorn_conf}", "--bind", bind, app]


def worker() -> Command:
    """The command line of a worker that does the shop's background work."""
    return [sys.executable, "manage.py", "procrastinate", "worker"]


def run_together(
    commands: Sequence[Command],
    *,
    variables: Mapping[str, str],
    log: IO[bytes] | None,
    url: str,
    on_ready: Callable[[], object],
) -> int:
    """Run programs until we are stopped, or one can't be kept running; end them gracefully.

    A program that ends by itself is started again, unless it was started only just before.

    ``variables`` override our own environment. The programs write into ``log`` (None: where we
    write to). ``on_ready`` is called once, when the shop at ``url`` can serve customers.

    Returns 0 if we were stopped (Ctrl-C, SIGTERM), else the exit code of the first that ended.
    """
    with _stop_signals() as signals:
        running: list[_Running] = []
        try:
            for command in commands:
                running.append(_Running(command, variables, log))
            has_answered = False
            while not signals:
                if not has_answered and is_served(url):
                    has_answered = True
                    on_ready()
                for each in running:
                    if (code := each.program.poll()) is not None and not each.start_again():
                        return code or 1
                time.sleep(0.1)
            return 0
        finally:
            end([each.program for each in running])


class _Running:
    """A program that is kept running."""

    def __init__(
        self, command: Command, variables: Mapping[str, str], log: IO[bytes] | None
    ) -> None:
        self._command = command
        self._variables = variables
        self._log = log
        self._start()

    def _start(self) -> None:
        self._started = time.monotonic()
        self.program = subprocess.Popen(
            self._command,
            cwd=ROOT,
            env={**os.environ, **self._variables},
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,  # Ctrl-C reaches it through us, once
        )

    def start_again(self) -> bool:
        """Start the ended program again; return False if it didn't last."""
        if time.monotonic() - self._started < SECONDS_TO_BE_STABLE:
            return False
        print(
            f"{' '.join(self._command[1:])} has ended with exit code {self.program.returncode}. "
            "Starting it again.",
            file=sys.stderr,
            flush=True,
        )
        self._start()
        return True


class ServedShop:
    """The shop, served on our database by processes on a port of this machine."""

    def __init__(
        self,
        variables: Mapping[str, str] | None = None,
        *,
        gunicorn_conf: str = GUNICORN_CONF,
        app: str = APP,
        log: IO[bytes] | None = None,
        access_log: IO[bytes] | int = subprocess.DEVNULL,
        command: Callable[[str], Command] | None = None,
        root: Path = ROOT,
    ) -> None:
        """``variables`` (``.env.example`` lists them) override our own environment.

        ``app`` is what gunicorn serves: ``shop.asgi``, or ``shop.wsgi``. ``command`` makes another
        command line of the web server, which listens at the bind that it gets. ``root`` is the
        checkout that the programs run in.

        The programs write their log into ``log`` (None: our standard error), and gunicorn its
        lines about requests into ``access_log``.
        """
        self._web_server = command or partial(web_server, gunicorn_conf=gunicorn_conf, app=app)
        self._root = root
        self._log, self._access_log = log, access_log
        self.host, self.port = "127.0.0.1", free_port()
        self.bind = f"{self.host}:{self.port}"
        self.url = f"http://{self.bind}"
        self._environment = {
            **os.environ,
            "DATABASE_URL": url_of(connection.settings_dict),
            "BASE_URL": self.url,
            "PAGES_PER_ADDRESS": "off",  # all buyers come from this machine
            "POSTS_PER_ADDRESS": "off",
            "MOST_UNITS_PER_ADDRESS": "off",
            "METRICS_ADDRESS": "off",  # another shop listens there
            **(variables or {}),
        }
        self._programs: list[subprocess.Popen[bytes]] = []

    def start_web(self) -> subprocess.Popen[bytes]:
        """Start gunicorn, and wait until it answers. Raises NotServed."""
        web = self.begin_web()
        deadline = time.monotonic() + SECONDS_TO_START
        while not is_served(self.url):
            if web.poll() is not None:
                raise NotServed(f"The web server has ended with exit code {web.returncode}.")
            if time.monotonic() > deadline:
                raise NotServed(f"The shop doesn't answer within {SECONDS_TO_START} seconds.")
            time.sleep(0.1)
        return web

    def begin_web(self, variables: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start gunicorn without waiting for it; ``variables`` are for this start alone."""
        return self._start(self._web_server(self.bind), variables)

    def start_worker(self) -> subprocess.Popen[bytes]:
        return self._start(worker())

    def stop(self) -> None:
        end(self._programs)

    def _start(
        self, command: Command, variables: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        program = subprocess.Popen(
            command,
            cwd=self._root,
            env={**self._environment, **(variables or {})},
            stdout=self._access_log,
            stderr=self._log,
            start_new_session=True,
        )
        self._programs.append(program)
        return program


def is_served(url: str) -> bool:
    """Whether the shop at this address can serve customers."""
    try:
        with urllib.request.urlopen(f"{url}/healthz", timeout=10) as answer:
            return bool(answer.status == HTTPStatus.OK)
    except (urllib.error.URLError, OSError):
        return False


def free_port() -> int:
    """A port of this machine on which no program listens.

    While we run, the system gives it to nobody else: others take free ports, too. A program that we
    start can listen there, since it sets SO_REUSEADDR as all servers do.
    """
    with socket.socket() as keeper:
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keeper.bind(("127.0.0.1", 0))
        port: int = keeper.getsockname()[1]
        if sys.platform == "linux":  # elsewhere nobody could listen beside it
            keeper.detach()  # it stays open until we end
        return port


@contextlib.contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Yield a list that gets the number of each SIGINT and SIGTERM."""
    signals: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        signals.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end(programs: Sequence[subprocess.Popen[bytes]]) -> None:
    """End programs that lead sessions of their own: gracefully, or after a while by force."""
    for program in programs:
        program.terminate()
    deadline = time.monotonic() + SECONDS_TO_END
    for program in programs:
        try:
            program.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(program.pid, signal.SIGKILL)  # its children, too
            program.wait()
