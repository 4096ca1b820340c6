"""A PgBouncer before the test's database, set up as in shop/deployment/README.md."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from configparser import ConfigParser
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connection

from shop.deployment.database import url_of
from shop.deployment.embedded_postgres import as_user, system_user
from shop.load_tests.serving import free_port
from tests.readmes import OF_DEPLOYMENT
from tests.shop.programs import SECONDS

SERVER_CONNECTIONS = 4


@contextmanager
def pgbouncer(connect_query: str | None = None) -> Iterator[str]:
    """Run a PgBouncer for the length of the block; yield the DATABASE_URL that leads through it.

    ``connect_query`` replaces the README's. PgBouncer has fewer connections to the server than any
    test has buyers. If the program isn't installed, the test is skipped; with REQUIRE_PGBOUNCER=1
    it fails.
    """
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        message = "No PgBouncer is installed: there is no pgbouncer on the PATH."
        if os.environ.get("REQUIRE_PGBOUNCER") == "1":
            pytest.fail(message)
        pytest.skip(message)
    user = _who_may_run_it()
    directory = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
    port = free_port()
    settings = directory / "pgbouncer.ini"
    with settings.open("w") as file:
        _configuration(port, connect_query).write(file)
    if user is not None:
        for path in (directory, settings):
            os.chown(path, *user)
    log = directory / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [program, settings], cwd=directory, stdout=output, stderr=output, **as_user(user)
        )
    try:
        where = {"NAME": connection.settings_dict["NAME"], "HOST": "127.0.0.1", "PORT": str(port)}
        url = url_of({**where, "USER": "shop", "PASSWORD": ""})
        _wait_until_it_answers(url, process, log)
        yield url
    finally:
        process.terminate()
        process.wait(SECONDS)
        shutil.rmtree(directory)


def _configuration(port: int, connect_query: str | None) -> ConfigParser:
    """The README's configuration, with the test's addresses, paths and users."""
    found = re.search(
        r"```ini\n(\[databases\].*?)```",
        OF_DEPLOYMENT.read_text(encoding="utf-8"),
        re.S,
    )
    assert found is not None
    configuration = ConfigParser(interpolation=None)
    configuration.read_string(found[1])
    names = {"HOST": "host", "PORT": "port", "USER": "user", "PASSWORD": "password"}
    server: dict[str, Any] = connection.settings_dict
    if connect_query is None:
        timeouts = re.search(r"connect_query='.*?'", configuration["databases"]["shop"])
        assert timeouts is not None
        connect_query = timeouts[0]
    where = [f"{name}='{server[key]}'" for key, name in names.items() if server[key]]
    configuration["databases"] = {"*": " ".join([*where, connect_query])}
    configuration["pgbouncer"].update(
        {
            "listen_addr": "127.0.0.1",
            "listen_port": str(port),
            "unix_socket_dir": "",
            "auth_type": "any",
            "default_pool_size": str(SERVER_CONNECTIONS),
        }
    )
    return configuration


def _who_may_run_it() -> tuple[int, int] | None:
    """The user to run PgBouncer as: if we are root, which it rejects, the owner of the socket."""
    if os.geteuid() != 0:
        return None
    host = Path(connection.settings_dict["HOST"])
    if host.is_absolute() and host.stat().st_uid != 0:
        return host.stat().st_uid, host.stat().st_gid
    return system_user()


def _wait_until_it_answers(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            psycopg.connect(url.replace("postgres:", "postgresql:")).close()
            return
        except psycopg.OperationalError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{error}\n{log.read_text()}") from error
            time.sleep(0.05)
