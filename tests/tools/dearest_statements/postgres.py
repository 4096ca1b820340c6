"""A PostgreSQL of the tool's own, which counts statements and can explain them.

The extensions pg_stat_statements and auto_explain come with PostgreSQL, but not with the package
that brings the shop's private one.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psycopg

from shop.deployment.embedded_postgres.server import as_user, system_user

OLDEST = 15  # its log has a form for programs, and each line has the statement's id
PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0777",
    "max_connections": "200",
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "shared_preload_libraries": "pg_stat_statements,auto_explain",
    "pg_stat_statements.max": "10000",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_buffers": "on",
    "logging_collector": "on",
    "log_destination": "jsonlog",
    "log_directory": "log",
    "log_filename": "server.log",
    "log_rotation_size": "0",
}
SECONDS_TO_START = 120
FIRST_NODE = re.compile(r"^[A-Z][^\n]*\(cost=", re.MULTILINE)


class NoServer(Exception):
    """No server can be had; the message says why, and what to do."""


def find_programs() -> Path:
    """The directory of a PostgreSQL's programs that has both extensions: the newest one.

    Raises NoServer where there is none.
    """
    found = [path for pattern in PLACES for path in Path("/").glob(pattern.lstrip("/"))]
    if on_path := shutil.which("initdb"):
        found.append(Path(on_path).resolve().parent)
    usable = [(version, path) for path in found if (version := _version(path)) >= OLDEST]
    if not usable:
        raise NoServer(
            f"This tool needs a PostgreSQL {OLDEST} or newer with its extensions "
            "pg_stat_statements and auto_explain. Install Debian's package postgresql, or "
            "postgresql-contrib elsewhere. Its server needn't run: the tool starts one of its own."
        )
    return max(usable)[1]


def _version(programs: Path) -> int:
    """The version of the PostgreSQL whose programs these are; 0 if it lacks the extensions."""
    config = programs / "pg_config"
    if not (programs / "initdb").exists() or not config.exists():
        return 0
    shown = subprocess.run(
        [str(config), "--pkglibdir", "--version"], capture_output=True, text=True, check=False
    ).stdout.split()
    if len(shown) < 3:
        return 0
    libraries = [Path(shown[0]) / f"{name}.so" for name in ("pg_stat_statements", "auto_explain")]
    return int(shown[2].split(".")[0]) if all(each.exists() for each in libraries) else 0


class Cluster:
    """A PostgreSQL server whose files lie in ``home``, reachable through a socket there."""

    def __init__(self, home: Path) -> None:
        self._programs = find_programs()
        self._home = home
        self._data = home / "data"
        self._user = _server_user()
        self._process: subprocess.Popen[bytes] | None = None

    @contextmanager
    def running(self) -> Iterator[Cluster]:
        """Make the server if it isn't there, and run it for the length of a block."""
        self._home.mkdir(parents=True, exist_ok=True)
        if self._user:
            os.chown(self._home, *self._user)
        if not self._data.exists():
            self._run("initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8",
                      "--locale=C.UTF-8", f"--pgdata={self._data}")  # fmt: skip
        self._data.joinpath("log", "server.json").unlink(missing_ok=True)
        options = {**SETTINGS, "unix_socket_directories": str(self._home)}
        with (self._home / "output").open("wb") as output:
            self._process = subprocess.Popen(
                [
                    str(self._programs / "postgres"),
                    *("-D", str(self._data)),
                    *(f"--{name}={value}" for name, value in options.items()),
                ],
                cwd=self._home,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C reaches it through us
                **as_user(self._user),
            )
        try:
            self._wait_until_it_answers()
            self.execute("postgres", "CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
            yield self
        finally:
            self._process.send_signal(2)  # SIGINT: the fast shutdown
            self._process.wait()

    @property
    def pid(self) -> int:
        """The process number of the server, whose children are all its others."""
        assert self._process is not None
        return self._process.pid

    def url(self, database: str) -> str:
        """The DATABASE_URL of one of its databases."""
        return f"postgres:///{database}?{urlencode({'user': 'postgres', 'host': self._home})}"

    def execute(self, database: str, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a statement over a connection of its own; return the rows, if it has any."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(sql, values or None)
            return cursor.fetchall() if cursor.description else []

    def explain_all(self, on: bool) -> None:
        """Write the plan of each statement, with its real values, into the log, or stop it."""
        value = 0 if on else -1
        self.execute("postgres", f"ALTER SYSTEM SET auto_explain.log_min_duration = {value}")
        self.execute("postgres", "SELECT pg_reload_conf()")

    def plans(self) -> dict[int, str]:
        """The plan of each statement in the log, by the statement's id: of the longest run."""
        plans: dict[int, tuple[float, str]] = {}
        with (self._data / "log" / "server.json").open() as lines:
            for line in lines:
                record = json.loads(line)
                words, _, plan = record.get("message", "").partition("  plan:\n")
                if plan and words.startswith("duration: "):
                    took, key = float(words.split()[1]), record["query_id"]
                    plans[key] = max(plans.get(key, (0.0, "")), (took, _without_query(plan)))
        return {key: plan for key, (_, plan) in plans.items()}

    def _run(self, program: str, *options: str) -> None:
        done = subprocess.run(
            [str(self._programs / program), *options],
            cwd=self._home,
            capture_output=True,
            text=True,
            check=False,
            **as_user(self._user),
        )
        if done.returncode:
            raise NoServer(f"{program} failed in {self._home}: {done.stderr.strip()}")

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + SECONDS_TO_START
        assert self._process is not None
        while True:
            try:
                self.execute("postgres", "SELECT 1")
                return
            except psycopg.OperationalError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise NoServer(
                        f"PostgreSQL did not start in {self._home}: {error}. "
                        "See the files output and data/log there."
                    ) from error
            time.sleep(0.1)


def _without_query(plan: str) -> str:
    """The plan from its first node on: the log has the statement's text before it."""
    first = FIRST_NODE.search(plan)
    return plan[first.start() :] if first else plan


def _server_user() -> tuple[int, int] | None:
    """The user (uid, gid) that the server runs as; None for our own, if that isn't root."""
    if os.geteuid() != 0:
        return None
    try:
        postgres = pwd.getpwnam("postgres")
    except KeyError:
        return system_user()
    return postgres.pw_uid, postgres.pw_gid
