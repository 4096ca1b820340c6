"""A PostgreSQL of the drill's own, with everything switched on that makes it safe."""

from __future__ import annotations

import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import psutil
import psycopg

from shop.deployment.embedded_postgres import DATABASE, PORT, USER, EmbeddedPostgres
from shop.deployment.embedded_postgres.server import SERVER_SETTINGS, binary
from tests.tools.fault_drill.kept import Kept
from tests.tools.fault_drill.waiting import wait_until

ROLE = "shop"
"""The role of the shop's programs: no superuser, so that the drill can come in when all is full."""
MOST_CONNECTIONS = 48
OF_SUPERUSER = 8


class DrilledPostgres(EmbeddedPostgres):
    """PostgreSQL in ``home``, run by the drill itself: started again whenever it ends."""

    settings = {
        **SERVER_SETTINGS,
        "max_connections": str(MOST_CONNECTIONS),
        "superuser_reserved_connections": str(OF_SUPERUSER),
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "min_wal_size": "32MB",
        "max_wal_size": "64MB",
        "log_line_prefix": "%m [%p] ",
    }

    def __init__(self, home: Path, log: Path) -> None:
        super().__init__(home)
        self.log = log
        self.kept = Kept("postgres", self._start_server, end=signal.SIGINT)

    def start(self) -> None:
        """Make the files, start the server, and make the shop's database."""
        self._make_home()
        self._init()
        self.kept.start()
        self.wait_until_answering()
        with self.connect("postgres") as connection:
            connection.execute(f"CREATE ROLE {ROLE} LOGIN")
            connection.execute(f"ALTER DATABASE {DATABASE} OWNER TO {ROLE}")

    def stop(self) -> None:
        self.kept.stop()
        shutil.rmtree(self.socket_dir, ignore_errors=True)  # it may be outside of our directory

    def wait_until_answering(self, seconds: float = 60.0) -> None:
        """Wait until it takes connections. Raises TimeoutError."""
        wait_until(lambda: self._try_to_connect() is None, "PostgreSQL answers", seconds)

    @property
    def url(self) -> str:
        """The DATABASE_URL of the shop's programs."""
        return self._url(user=ROLE)

    @property
    def url_of_drill(self) -> str:
        """The DATABASE_URL of the drill: it acts as the shop, and there's always room for it."""
        return self._url(user=USER, options=f"-c role={ROLE}")

    def _url(self, **more: str) -> str:
        where = {"host": str(self.socket_dir), "port": PORT, **more}
        return f"postgres:///{DATABASE}?{urlencode(where, quote_via=quote)}"

    def connect(self, database: str = DATABASE, role: str = USER) -> Any:
        """A new connection. Raises psycopg.Error."""
        return psycopg.connect(
            host=str(self.socket_dir),
            port=PORT,
            user=role,
            dbname=database,
            autocommit=True,
            connect_timeout=5,
        )

    def backends(self) -> list[psutil.Process]:
        """The server's processes that serve the shop's programs."""
        found = []
        with suppress(psutil.Error):
            for each in self.kept.process.children():
                with suppress(psutil.Error):
                    if " ".join(each.cmdline()).startswith(f"postgres: {ROLE} {DATABASE} "):
                        found.append(each)
        return found

    def _start_server(self) -> Any:
        with os.fdopen(os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)) as log:
            return self._run(binary("postgres"), stdout=log, stderr=log, start_new_session=True)
