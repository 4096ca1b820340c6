"""The shop as it is served: gunicorn and a worker, in processes of their own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import psutil
import pytest

from shop import serving
from tests.command_line import ROOT, database_url

SECONDS_TO_START = 90


class Served:
    """gunicorn with two workers, and a background worker, on the test's database."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.bind = f"127.0.0.1:{probe.getsockname()[1]}"
        self.url = f"http://{self.bind}"
        self._programs: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        self.web = self._run(serving.web_server(self.bind))
        self.worker = self._run(serving.worker())
        deadline = time.monotonic() + SECONDS_TO_START
        while not self._answers():
            assert self.web.poll() is None, "gunicorn has ended"
            assert time.monotonic() < deadline, "the shop isn't served"
            time.sleep(0.1)

    def restart_worker(self) -> None:
        self.worker = self._run(serving.worker())

    def web_workers(self) -> list[psutil.Process]:
        return psutil.Process(self.web.pid).children()

    def stop(self) -> None:
        for program in self._programs:
            program.terminate()
        for program in self._programs:
            try:
                program.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(program.pid, signal.SIGKILL)
                program.wait()

    def _run(self, command: serving.Command) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "DATABASE_URL": database_url(),
            "PAGES_PER_ADDRESS": "off",  # all buyers come from this machine
            "POSTS_PER_ADDRESS": "off",
            "WEB_CONCURRENCY": "2",
        }
        program = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._programs.append(program)
        return program

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/healthz", timeout=10) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


@pytest.fixture
def served(transactional_db: None) -> Iterator[Served]:
    shop = Served()
    try:
        shop.start()
        yield shop
    finally:
        shop.stop()
