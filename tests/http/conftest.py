"""The shop as it is served: gunicorn and a worker, in processes of their own."""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import pytest

from shop.load_tests.serving import ServedShop
from tests.shop.orders.steps import delete_jobs


class Served(ServedShop):
    """gunicorn with two workers, and a background worker, on the test's database."""

    def start(self) -> None:
        self.web = self.start_web()
        self.worker = self.start_worker()

    def restart_worker(self) -> None:
        self.worker = self.start_worker()

    def web_workers(self) -> list[psutil.Process]:
        return psutil.Process(self.web.pid).children()


@pytest.fixture(autouse=True)
def no_job_is_left_of_other_tests(transactional_db: None) -> None:
    """A worker would try jobs again and again whose orders are gone."""
    delete_jobs()


@pytest.fixture
def served(transactional_db: None) -> Iterator[Served]:
    shop = Served({"WEB_CONCURRENCY": "2"})
    try:
        shop.start()
        yield shop
    finally:
        shop.stop()
