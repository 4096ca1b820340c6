"""The servers of the benchmark: one for each way of serving, all of them at once.

The ways of this checkout share a scratch database. Another checkout has one of its own.
"""

from __future__ import annotations

import os
import resource
import secrets
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil
from django.db import connection
from psycopg import sql

from inventory.experiments.parameters import InvalidParameters
from inventory.races import scratch
from shop.deployment.database import url_of
from shop.fast_lane.lane import THREADS_TO_LOOK, THREADS_TO_RESERVE
from shop.load_tests.http_benchmark import visitors
from shop.load_tests.http_benchmark.beside import OtherShop
from shop.load_tests.http_benchmark.books import Books
from shop.load_tests.http_benchmark.rows import BESIDE, DJANGO, GTHREAD, LANE
from shop.load_tests.serving import APP, ServedShop

OWN_VISITORS, MET_VISITORS = 20_000, 2_000
CONNECTIONS_OF_OURS = 20  # to the database; the servers need the others
MOST_OPEN_FILES = 65536
SECONDS_TO_CALM_DOWN = 60.0
SECONDS_BETWEEN_LOOKS, CALM_LOOKS = 0.1, 3
CALM = 0.1  # of a processor

GUNICORN_CONF = "shop.load_tests.http_benchmark.gunicorn_conf"
NO_LIMITS = {"MOST_UNITS_PER_BUYER": "1000000", "MOST_HOLDS_PER_BUYER": "10000"}


@dataclass(frozen=True)
class Server:
    """A web server that runs, and all that its buyers need."""

    way: str
    shop: ServedShop
    program: psutil.Process
    books: Books
    visitors: Path
    """The file of its visitors."""
    is_own: bool
    """Whether it serves this checkout."""

    def processes(self) -> list[psutil.Process]:
        return [self.program, *self.program.children(recursive=True)]

    def processor_seconds(self) -> dict[int, float]:
        """The processor time of each of its processes since its start, in seconds."""
        times = {}
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                used = process.cpu_times()
                times[process.pid] = used.user + used.system
        return times

    def wait_until_calm(self) -> None:
        """Wait until it works no more: it still serves buyers who have hung up."""
        deadline = time.monotonic() + SECONDS_TO_CALM_DOWN
        used, calm = sum(self.processor_seconds().values()), 0
        while calm < CALM_LOOKS and time.monotonic() < deadline:
            time.sleep(SECONDS_BETWEEN_LOOKS)
            before, used = used, sum(self.processor_seconds().values())
            calm = calm + 1 if used - before <= CALM * SECONDS_BETWEEN_LOOKS else 0


def check_connections(ways: Sequence[str], workers: int, threads: int) -> None:
    """Raise InvalidParameters if the database has too few connections for all threads."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW max_connections")
        (most,) = cursor.fetchone()
    of_lane = THREADS_TO_RESERVE + THREADS_TO_LOOK if LANE in ways else 0
    needed = workers * (len(ways) * threads + of_lane) + CONNECTIONS_OF_OURS
    if needed > int(most):
        raise InvalidParameters(
            f"threads: {len(ways)} servers × {workers} × {threads}, the fast lane and our own need "
            f"{needed} "
            f"connections, and the database allows {most}. Give fewer workers or threads."
        )


@contextmanager
def running(
    ways: Sequence[str],
    variables: Mapping[str, str],
    beside: OtherShop | None,
    log: IO[bytes],
) -> Iterator[dict[str, Server]]:
    """Run a server for each way, for the length of a block. They write their log into ``log``.

    Meanwhile our own connection is to the database of this checkout's servers.

    Raises Misuse, NotServed, ConnectionError.
    """
    open_many_files()
    with (
        scratch.scratch_database(),
        tempfile.TemporaryDirectory(prefix="http_benchmark_") as directory,
        ExitStack() as until_the_end,
    ):
        servers: dict[str, Server] = {}
        own = Path(directory) / "visitors"
        visitors.write_own(own, OWN_VISITORS)
        for way in ways:
            if way == BESIDE:
                continue
            shop = ServedShop(
                {**variables, **NO_LIMITS, "FAST_LANE": "on" if way == LANE else "off"},
                gunicorn_conf=GUNICORN_CONF,
                log=log,
                app="shop.wsgi" if way == GTHREAD else APP,
            )
            until_the_end.callback(shop.stop)
            books = Books(url_of(connection.settings_dict))
            program = psutil.Process(shop.start_web().pid)
            servers[way] = Server(way, shop, program, books, own, True)
        if beside is not None and BESIDE in ways:
            server = until_the_end.enter_context(_running_beside(beside, variables, directory, log))
            servers[BESIDE] = server
        yield servers


@contextmanager
def _running_beside(
    other: OtherShop, variables: Mapping[str, str], directory: str, log: IO[bytes]
) -> Iterator[Server]:
    with database() as url:
        other.migrate(url)
        shop = ServedShop(
            {**variables, **NO_LIMITS, "DATABASE_URL": url},
            log=log,
            command=other.web_server,
            root=other.root,
        )
        try:
            program = psutil.Process(shop.start_web().pid)
            slug = "met-first"
            other.make_product(url, slug)
            file = Path(directory) / "visitors-beside"
            visitors.write_met(file, MET_VISITORS, shop.host, shop.port, f"/products/{slug}/")
            yield Server(BESIDE, shop, program, Books(url), file, False)
        finally:
            shop.stop()


@contextmanager
def database() -> Iterator[str]:
    """Make another database on our server, and yield its URL; drop it at the end."""
    name = f"{scratch.PREFIX}{os.getpid()}_{secrets.token_hex(4)}"
    scratch.create("default", sql.Identifier(name))
    try:
        yield url_of({**connection.settings_dict, "NAME": name})
    finally:
        drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        scratch.execute("default", drop)


def open_many_files() -> None:
    """Allow as many connections as we may; the programs that we start inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


WAYS: Sequence[str] = (LANE, DJANGO, GTHREAD)
