"""The counts of all of gunicorn's processes together, whatever becomes of each of them."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from inventory.models import Reservation
from shop.load_tests.serving import GUNICORN_CONF, free_port
from shop.metrics.multiprocess import PREFIX
from tests.conftest import MakeProduct
from tests.http.conftest import SAME_FOR_BOTH, Served
from tests.http.shopper import Shopper
from tests.shop.metrics.conftest import TOKEN
from tests.shop.metrics.figures import Figures
from tests.shop.programs import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

PAGE = {"view": "help-stock", "status": 200}


class Counting(Served):
    """The shop with its metrics on, and with a temporary directory of its own."""

    temporary: Path

    @property
    def own_url(self) -> str:
        return f"http://{self._environment['METRICS_ADDRESS']}"

    def scrape(self) -> Figures:
        with urllib.request.urlopen(f"{self.own_url}/metrics", timeout=20) as answer:
            return Figures(answer.read().decode())

    def pages(self) -> float:
        """The number of pages that were shown, as one of the processes knows it."""
        return self.scrape().number("shop_request_seconds_count", **PAGE)

    def show_pages(self, number: int) -> None:
        for _ in range(number):
            assert self.status("/help/stock/") == 200

    def status(self, path: str, url: str = "", token: str = "") -> int:
        request = urllib.request.Request((url or self.url) + path)
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def directories(self) -> list[Path]:
        return list(self.temporary.glob(f"{PREFIX}*"))

    def files(self) -> int:
        """The number of files with counts."""
        [directory] = self.directories()
        return len(list(directory.glob("*.db")))

    def pids(self) -> set[int]:
        return {process.pid for process in self.web_workers()}

    def replace(self, process: psutil.Process) -> None:
        """Kill a process, and wait until another one does its work."""
        before = self.pids()
        process.kill()
        wait_until(lambda: len(self.pids() - before) == 1, "gunicorn replaced the process")
        self.wait_until_all_answer()

    def reload(self) -> None:
        """Let gunicorn replace all processes, and wait until the old ones have ended."""
        before = self.pids()
        os.kill(self.web.pid, signal.SIGHUP)
        wait_until(
            lambda: len(self.pids()) == 2 and not self.pids() & before,
            "gunicorn replaced all processes",
        )

    def wait_until_all_answer(self) -> None:
        """Until each process holds its lock, and so has loaded the shop."""
        [directory] = self.directories()
        wait_until(
            lambda: all(
                any(file.path.startswith(str(directory)) for file in process.open_files())
                for process in self.web_workers()
            ),
            "all processes count",
        )
        wait_until(lambda: self.status("/help/stock/") == 200, "the shop answers")


@contextmanager
def counting(app: str = "shop.asgi", **variables: str) -> Iterator[Counting]:
    with tempfile.TemporaryDirectory(prefix="metrics-test-") as temporary:
        shop = Counting(
            {
                "WEB_CONCURRENCY": "2",
                "METRICS_ADDRESS": f"127.0.0.1:{free_port()}",
                "METRICS_TOKEN": TOKEN,
                "TMPDIR": temporary,
                **variables,
            },
            app=app,
            command=partial(by_script, app),
        )
        shop.temporary = Path(temporary)
        try:
            shop.start()
            yield shop
        finally:
            shop.stop()
        assert shop.directories() == []  # a shop that is stopped leaves nothing behind


def by_script(app: str, bind: str) -> list[str]:
    """The command line of gunicorn. After SIGUSR2 it can't start itself again as a module."""
    script = str(Path(sys.executable).with_name("gunicorn"))
    return [script, "-c", f"python:{GUNICORN_CONF}", "--bind", bind, app]


@pytest.fixture(scope="module", params=SAME_FOR_BOTH)
def shop(request: pytest.FixtureRequest, django_db_setup: None) -> Iterator[Counting]:
    with counting(request.param) as started:
        started.wait_until_all_answer()
        yield started


def test_each_process_shows_the_counts_of_all(shop: Counting) -> None:
    before = shop.pages()
    shop.show_pages(30)
    assert {shop.pages() for _ in range(12)} == {before + 30}


def test_reservations_and_refusals_are_counted_once_each(
    shop: Counting, make_product: MakeProduct
) -> None:
    product = make_product(4)
    before = shop.scrape()
    shoppers = [Shopper(shop.url, number) for number in range(6)]
    statuses = [
        shopper.send(shopper.get(f"/products/{product.slug}/").form("holds")).status
        for shopper in shoppers
    ]
    assert sorted(statuses) == [200] * 4 + [409] * 2
    assert Reservation.objects.count() == 4
    after = shop.scrape()

    def more(name: str, **labels: str) -> float:
        return after.number(name, **labels) - before.number(name, **labels)

    assert more("shop_reservations_total", strategy="combined") == 4
    assert more("shop_refusals_total", strategy="combined") == 2
    assert more("shop_reserve_seconds_count", strategy="combined") == 6
    assert more("shop_request_seconds_count", view="basket-holds", status="302") == 4
    assert more("shop_request_seconds_count", view="basket-holds", status="409") == 2
    assert more("shop_request_seconds_count", view="product", status="200") == 6
    assert more("shop_batch_requests_sum") >= 4  # a refusal may be known before any statement


def test_unknown_addresses_are_one_view_and_so_are_static_files(shop: Counting) -> None:
    before = shop.scrape()
    for _ in range(5):
        assert shop.status(f"/{uuid4()}") == 404
        assert shop.status("/static/shop/shop.css") == 200
    after = shop.scrape()
    for labels in ({"view": "unknown", "status": 404}, {"view": "static", "status": 200}):
        name = "shop_request_seconds_count"
        assert after.number(name, **labels) - before.number(name, **labels) == 5


def test_at_their_own_address_there_is_nothing_else(
    shop: Counting, make_product: MakeProduct
) -> None:
    product = f"/products/{make_product().slug}/"  # the fast lane would answer for it
    for path in (
        "/",
        "/livez",
        "/healthz",
        "/help/stock/",
        "/basket/",
        "/static/shop/shop.css",
        product,
    ):
        assert shop.status(path, shop.own_url) == 404
    assert shop.status("/metrics", shop.own_url) == 200
    assert shop.status("/metrics") == 401
    assert shop.status("/metrics", token="another-token-of-24-chars") == 403
    assert shop.status("/metrics", token=TOKEN) == 200


def test_no_count_falls_when_processes_are_killed_again_and_again(shop: Counting) -> None:
    shop.show_pages(10)
    count, files = shop.pages(), shop.files()
    for _ in range(4):
        shop.replace(shop.web_workers()[0])
        assert shop.pages() >= count
        shop.show_pages(3)
        count += 3
    assert shop.pages() >= count
    assert shop.files() == files


def test_no_count_falls_when_the_shop_is_reloaded(shop: Counting) -> None:
    shop.show_pages(10)
    count = shop.pages()
    for _ in range(2):
        shop.reload()
        shop.wait_until_all_answer()
        assert shop.pages() >= count
        shop.show_pages(3)
        count += 3
    assert shop.files() <= 2 * 4  # of two kinds, for old and new processes at a time


def test_a_killed_gunicorn_leaves_nothing_that_counts_after_the_next_start() -> None:
    with counting() as shop:
        shop.show_pages(5)
        workers = shop.web_workers()
        [left] = shop.directories()
        shop.web.kill()
        shop.web.wait()
        wait_until(lambda: not any(map(lives, workers)), "its processes ended")
        assert shop.directories() == [left]
        shop.start()
        assert shop.pages() == 0
        shop.show_pages(2)
        assert shop.pages() == 2
        [made] = shop.directories()
        assert made != left


@pytest.mark.longest
def test_a_new_master_goes_on_with_the_counts_of_the_old_one() -> None:
    """It takes over the sockets (SIGUSR2). Both answer for a while, and none may show less."""
    with counting() as shop:
        shop.wait_until_all_answer()
        shop.show_pages(5)
        count = shop.pages()
        [directory] = shop.directories()
        old = psutil.Process(shop.web.pid)
        before = {process.pid for process in old.children()}
        old.send_signal(signal.SIGUSR2)

        def new_ones() -> list[psutil.Process]:
            return [each for each in old.children() if each.pid not in before and each.children()]

        wait_until(new_ones, "the new master has processes")
        [new] = new_ones()
        try:
            wait_until(lambda: len(new.children()) == 2, "the new master has all of them")
            assert {shop.pages() for _ in range(8)} == {count}
            shop.web.terminate()
            shop.web.wait(60)
            assert shop.directories() == [directory]
            assert shop.pages() == count
            shop.show_pages(2)
            assert shop.pages() == count + 2
        finally:
            new.terminate()
            wait_until(lambda: not lives(new), "the new master ended")


@pytest.mark.thorough
def test_two_gunicorns_leave_each_others_counts_alone() -> None:
    with counting() as shop:
        shop.show_pages(3)
        with counting(TMPDIR=str(shop.temporary)) as other:
            other.temporary = Path(tempfile.mkdtemp(dir=shop.temporary))  # not its own
            assert len(shop.directories()) == 2
            other.show_pages(1)
            assert (shop.pages(), other.pages()) == (3, 1)
        assert len(shop.directories()) == 1
        assert shop.pages() == 3


def lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
