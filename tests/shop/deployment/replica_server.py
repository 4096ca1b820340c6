"""A streaming replica of the tests' own PostgreSQL, by the programs of the same package."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from django.db import connection

from shop.deployment.embedded_postgres.server import as_user, binary

SECONDS = 90


class ReplicaServer:
    """A replica that runs, with a socket in ``home``."""

    def __init__(self, home: Path, user: tuple[int, int] | None) -> None:
        self.home = home
        self._data = home / "data"
        self._user = user
        self.start()

    @property
    def url(self) -> str:
        """The address of the test database on it."""
        return f"postgres:///{connection.settings_dict['NAME']}?host={self.home}&user=postgres"

    def execute(self, sql: str) -> Any:
        """Run a statement; return the first value of its row."""
        with psycopg.connect(self.url, autocommit=True) as own:
            row = own.execute(sql.encode()).fetchone()
        return row[0] if row else None

    def kill(self) -> None:
        """Stop it at once, as a machine that loses its power."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(SECONDS)

    def freeze(self) -> None:
        """Let all its processes stand still: it takes connections, and answers nobody."""
        for process in self._processes():
            process.suspend()

    def end(self) -> None:
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait(SECONDS)

    def _processes(self) -> list[psutil.Process]:
        if self._process.poll() is not None:
            return []
        server = psutil.Process(self._process.pid)
        return [server, *server.children()]

    def start(self) -> None:
        with (self.home / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(binary("postgres"), "-D", str(self._data)),
                    *("-c", "listen_addresses=", "-c", f"unix_socket_directories={self.home}"),
                    *("-c", "max_connections=200", "-c", "unix_socket_permissions=0777"),
                ],
                cwd=self.home,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **as_user(self._user),
            )
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                self.execute("SELECT 1")
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError((self.home / "log").read_text()) from None
            time.sleep(0.1)


@contextmanager
def replica_of_tests() -> Iterator[ReplicaServer]:
    """Copy the server of the tests, and run the copy as its replica."""
    primary = connection.settings_dict
    user = None
    if os.geteuid() == 0:
        owner = Path(primary["HOME"], "data").stat()
        user = owner.st_uid, owner.st_gid
    with tempfile.TemporaryDirectory(prefix="replica-", dir="/tmp") as directory:
        home = Path(directory)
        if user:
            os.chown(home, *user)
        home.chmod(0o755)
        copied = subprocess.run(
            [
                *(binary("pg_basebackup"), "-h", primary["HOST"], "-p", primary["PORT"]),
                *("-U", primary["USER"], "-D", str(home / "data"), "--write-recovery-conf"),
                *("--checkpoint=fast", "--no-sync"),
            ],
            cwd=home,
            capture_output=True,
            text=True,
            check=False,
            **as_user(user),
        )
        assert copied.returncode == 0, copied.stderr
        server = ReplicaServer(home, user)
        try:
            yield server
        finally:
            server.end()


@pytest.fixture(scope="module")
def replica(django_db_setup: None) -> Iterator[ReplicaServer]:
    """One for all tests of a module: copying the server takes seconds."""
    if "HOME" not in connection.settings_dict or shutil.which(binary("pg_basebackup")) is None:
        pytest.skip("the tests don't use the package's PostgreSQL, or it has no pg_basebackup")
    with replica_of_tests() as server:
        yield server
