"""The served shop: gunicorn and a worker, in processes of their own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import IO

import psutil
import pytest

from shop.load_tests.serving import APP, GUNICORN_CONF, ServedShop, end
from tests.shop.orders.steps import delete_jobs


class Served(ServedShop):
    """gunicorn with two workers, and a background worker beside it, on the test's database."""

    def start(self) -> None:
        self.web = self.start_web()

    def start_the_worker(self) -> None:
        self.worker = self.start_worker()

    def web_workers(self) -> list[psutil.Process]:
        return psutil.Process(self.web.pid).children()


@pytest.fixture(autouse=True)
def no_job_is_left_of_other_tests(transactional_db: None) -> None:
    """Else a worker would try their jobs again and again, whose orders are gone."""
    delete_jobs()


APPS = ["shop.asgi", "shop.wsgi"]
# For what gunicorn's master does, or code that both apps run
SAME_FOR_BOTH = ["shop.asgi", pytest.param("shop.wsgi", marks=pytest.mark.thorough)]
OTHER_DEADLINES = "tests.http.gunicorn_conf"


def serve(
    app: str = APP,
    conf: str = GUNICORN_CONF,
    log: IO[bytes] | None = None,
    /,
    **variables: str,
) -> Iterator[Served]:
    """gunicorn alone, while a fixture of a module lasts.

    It takes longer to start than most tests take to run. It keeps nothing from one test to the
    next: its state is in the database, which is emptied.
    """
    shop = Served({"WEB_CONCURRENCY": "2", **variables}, gunicorn_conf=conf, app=app, log=log)
    try:
        shop.start()
        yield shop
    finally:
        shop.stop()


serving = contextlib.contextmanager(serve)


@pytest.fixture(scope="module")
def web(django_db_setup: None) -> Iterator[Served]:
    yield from serve()


@pytest.fixture
def served(web: Served, transactional_db: None) -> Iterator[Served]:
    """The shop with a worker of the test's own, which has ended when the database is emptied."""
    web.start_the_worker()
    try:
        yield web
    finally:
        end([web.worker])
