"""PostgreSQL on the file system that loses its power."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, urlencode

import psutil

from shop.deployment.embedded_postgres import DATABASE, PORT, USER, EmbeddedPostgres
from shop.deployment.embedded_postgres.server import SERVER_SETTINGS, binary
from tests.tools.fault_drill.waiting import wait_until

SECONDS_TO_START = 60.0
SAFE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
WITHOUT = {
    "fsync": {"fsync": "off", "full_page_writes": "off"},
    "synchronous_commit": {"synchronous_commit": "off"},
}


class Server(EmbeddedPostgres):
    """A server that the tool starts and kills; it logs to ``log``, outside of its file system."""

    def __init__(self, home: Path, log: Path, without: str) -> None:
        super().__init__(home)
        self.log = log
        self.settings = {
            **SERVER_SETTINGS,
            **SAFE,
            **WITHOUT.get(without, {}),
            "max_wal_size": "64MB",
            "checkpoint_timeout": "30s",
        }

    @property
    def url(self) -> str:
        """The DATABASE_URL of the shop."""
        where = {"host": str(self.socket_dir), "port": PORT, "user": USER}
        return f"postgres:///{DATABASE}?{urlencode(where, quote_via=quote)}"

    def make(self) -> None:
        """Make its files."""
        self._make_home()
        self._init()

    def start(self) -> None:
        """Start it, and wait until it has recovered. Raises TimeoutError."""
        with os.fdopen(os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)) as log:
            self._process = self._run(
                binary("postgres"), stdout=log, stderr=log, start_new_session=True
            )
        wait_until(lambda: self._try_to_connect() is None, "PostgreSQL answers", SECONDS_TO_START)

    def kill(self) -> None:
        """Kill all its processes."""
        with suppress(psutil.NoSuchProcess):
            for process in [self._process, *self._process.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        self._process.wait()
