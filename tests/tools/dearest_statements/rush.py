"""A rush: buyers, onlookers, staff, a worker and a watching machine, all at once."""

from __future__ import annotations

import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import IO
from urllib.parse import urlencode
from uuid import uuid4

from django.contrib.auth.models import User
from django.db import connection
from django.test import Client as Login
from django.urls import reverse
from procrastinate.contrib.django import app
from procrastinate.exceptions import AlreadyEnqueued

from inventory import stock
from inventory.models import Product
from shop.load_tests.http_benchmark import visitors, wrk
from shop.load_tests.http_benchmark.client import Answer, Client
from shop.load_tests.http_benchmark.servers import NO_LIMITS
from shop.load_tests.http_benchmark.visitors import TOKEN
from shop.load_tests.serving import ServedShop, free_port
from tests.tools import fill_database

HOT = ("hot-1", "hot-2")  # slugs of the products that everybody wants
BUYERS_OF_HOT = 24
PURCHASES_AT_ONCE = 4
MANY = 10_000_000  # units: they must not run out
VISITORS = 5_000
SECONDS_FOR_JOBS = 120
SECONDS_BETWEEN_CLICKS = 0.02
SECONDS_BETWEEN_SCRAPES = 5.0

LISTS = (
    "/",
    "/?page=2",
    "/?page=7",
    "/?sort=price",
    "/?sort=-price&page=3",
    "/?sort=new",
    "/?in_stock=on",
    "/?in_stock=on&sort=price",
    "/?q=kettle",
    "/?q=kettle+7",
    "/?q=no+such+thing",
    "/?q=SKU-77",
    "/help/stock/",
)


class Rush:
    """The shop, served on our database, and all who come."""

    def __init__(self, directory: Path, log: IO[bytes]) -> None:
        self.answers: Counter[tuple[str, int]] = Counter()
        """The answers to the clicks of our own client, by what it clicked and status."""
        self.problems: list[str] = []
        self.purchases = self.reserved = 0
        """Purchases and reservations by wrk."""
        self._visitors = directory / "visitors"
        visitors.write_own(self._visitors, VISITORS)
        self._products = _make_hot_products()
        self._most = Product.objects.order_by("-pk").values_list("pk", flat=True)[0]
        self._session = _session_of_staff()
        self._metrics = Client("127.0.0.1", free_port())
        variables = {**NO_LIMITS, "METRICS_ADDRESS": f"127.0.0.1:{self._metrics.port}"}
        self._shop = ServedShop(variables, log=log)

    @contextmanager
    def served(self) -> Iterator[Rush]:
        """Run the web server and a worker for the length of a block."""
        try:
            self._shop.start_web()
            self._shop.start_worker()
            yield self
        finally:
            self._shop.stop()

    def go_on(self, seconds: float) -> None:
        """Let all come for so many seconds, and until each page was shown and each job ran."""
        ending = threading.Event()
        crowd = [
            *(self._begin(ending, self._look_round, number) for number in range(2)),
            *(self._begin(ending, self._fill_basket, number) for number in range(2)),
            self._begin(ending, self._manage, 0),
            self._begin(ending, self._watch, 0),
        ]
        queue_all_periodic_jobs()
        runs = [self._reserve(slug, seconds) for slug in HOT]
        purchases = self._buy(seconds)
        self.reserved += sum(self._good(run) for run in runs)
        self.purchases += self._good(purchases)
        ending.set()
        for each in crowd:
            each.join()
        wait_for_jobs()

    def reserve_only(self, seconds: float) -> int:
        """Let buyers reserve a hot product; return how many did."""
        return self._good(self._reserve(HOT[0], seconds))

    def buy_only(self, seconds: float) -> int:
        """Let buyers buy a hot product; return how many did."""
        return self._good(self._buy(seconds))

    def _reserve(self, slug: str, seconds: float) -> wrk.Wrk:
        return self._wrk("reserve", reverse("basket-holds"), slug, seconds, 302, BUYERS_OF_HOT, 1)

    def _buy(self, seconds: float) -> wrk.Wrk:
        page = reverse("product", args=[HOT[1]])
        return self._wrk("purchase", page, HOT[1], seconds, 200, *2 * (PURCHASES_AT_ONCE,))

    def _wrk(
        self,
        script: str,
        path: str,
        slug: str,
        seconds: float,
        status: int,
        connections: int,
        threads: int,
    ) -> wrk.Wrk:
        variables = {
            "PATH": path,
            "PRODUCT": slug,
            "PRICE": str(self._products[slug].price),
            "STATUS": str(status),
            "VISITORS": str(self._visitors),
        }
        return wrk.Wrk(
            script,
            self._shop.url,
            variables,
            connections=connections,
            seconds=seconds,
            threads=threads,
        )

    def _good(self, run: wrk.Wrk) -> int:
        answers = run.answers()
        if answers.bad:
            self.problems.append(f"{answers.bad} times: {answers.first_bad}")
        return answers.good

    # Our own clients, each in a thread

    def _begin(
        self,
        ending: threading.Event,
        act: Callable[[threading.Event, Client, random.Random], None],
        number: int,
    ) -> threading.Thread:
        def run() -> None:
            client = Client(self._shop.host, self._shop.port)
            try:
                act(ending, client, random.Random(number))
            except Exception as error:
                self.problems.append(f"{act.__name__}: {error!r}")
            finally:
                client.close()

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def _look_round(self, ending: threading.Event, client: Client, chance: random.Random) -> None:
        """Open lists, searches and products, as a visitor without cookies."""
        while not ending.is_set():
            for path in LISTS:
                self._get(client, path, "list")
                for slug in (*HOT, self._any_slug(chance)):
                    self._get(client, f"/products/{slug}/", "product")
                    self._get(client, f"/products/{slug}/stock/", "stock")
                ending.wait(SECONDS_BETWEEN_CLICKS)

    def _fill_basket(self, ending: threading.Event, client: Client, chance: random.Random) -> None:
        """Reserve units of any product, and look at one's own pages."""
        while not ending.wait(SECONDS_BETWEEN_CLICKS):
            slug = self._any_slug(chance)
            page = self._get(client, f"/products/{slug}/", "product")
            token = TOKEN.search(page.body)
            if token is None:
                continue
            form = {
                "csrfmiddlewaretoken": token[1].decode(),
                "product": slug,
                "quantity": 1,
                "key": uuid4(),
            }
            posted = client.post("/basket/holds/", page.cookies, urlencode(form).encode())
            self.answers["reserve any", posted.status] += 1
            for path in ("/basket/", f"/products/{slug}/", "/", "/checkout/", "/orders/"):
                self._get(client, path, "own page", page.cookies)
            page_of_basket = self._get(client, "/basket/", "own page", page.cookies)
            self._release(client, page_of_basket, page.cookies)

    def _release(self, client: Client, basket: Answer, cookies: bytes) -> None:
        """Remove the first line of the basket."""
        for form in re.findall(rb"<form.*?</form>", basket.body, re.DOTALL):
            action = re.search(rb'action="(/basket/holds/[0-9a-f-]{36}/)"', form)
            if action and (fields := re.findall(rb'name="([^"]+)" value="([^"]*)"', form)):
                values = {**dict(fields), b"quantity": b"0"}
                posted = client.post(action[1].decode(), cookies, urlencode(values).encode())
                self.answers["change", posted.status] += 1
                return

    def _manage(self, ending: threading.Event, client: Client, chance: random.Random) -> None:
        """Open the admin's pages, one after the other."""
        while not ending.is_set():
            for path in fill_database.PAGES.values():
                self._get(client, path.replace(" ", "+"), "admin", self._session)
                ending.wait(SECONDS_BETWEEN_CLICKS)

    def _watch(self, ending: threading.Event, client: Client, chance: random.Random) -> None:
        """Ask as a monitoring system does."""
        while True:
            client.close()  # the server closes one that is idle for seconds
            self._metrics.close()
            self._get(client, "/healthz", "healthz")
            try:
                self._get(self._metrics, "/metrics", "metrics")
            except ConnectionRefusedError:  # this checkout has none
                self.answers["metrics", 0] += 1
            if ending.wait(SECONDS_BETWEEN_SCRAPES):
                return

    def _get(self, client: Client, path: str, what: str, cookies: bytes = b"") -> Answer:
        answer = client.get(path, cookies)
        self.answers[what, answer.status] += 1
        if answer.status >= 500:
            self.problems.append(f"{path} answered {answer.status}")
        return answer

    def _any_slug(self, chance: random.Random) -> str:
        return f"product-{chance.randrange(1, max(2, self._most - len(HOT)))}"


def _make_hot_products() -> dict[str, Product]:
    """The products that everybody wants, with more units than can be bought."""
    for slug in HOT:
        product, is_new = Product.objects.get_or_create(
            slug=slug, defaults={"sku": slug, "name": f"A {slug} one", "price": Decimal(9)}
        )
        if is_new:
            stock.receive(product, MANY)
    return {product.slug: product for product in Product.objects.filter(slug__in=HOT)}


def _session_of_staff() -> bytes:
    """The cookie of somebody who may do everything in the admin."""
    user, _ = User.objects.get_or_create(username="fill", is_staff=True, is_superuser=True)
    client = Login()
    client.force_login(user)
    return f"sessionid={client.cookies['sessionid'].value}".encode()


def queue_all_periodic_jobs() -> None:
    """Queue each periodic job of the worker, also those of the night."""
    for periodic in app.periodic_registry.periodic_tasks.values():
        with suppress(AlreadyEnqueued):
            periodic.task.configure(queueing_lock=f"rush {periodic.task.name}").defer(
                timestamp=int(time.time())
            )


def wait_for_jobs() -> None:
    """Wait until none of the queued periodic jobs waits or runs any more."""
    deadline = time.monotonic() + SECONDS_FOR_JOBS
    while time.monotonic() < deadline:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM procrastinate_jobs WHERE queueing_lock LIKE 'rush %'"
                " AND status IN ('todo', 'doing')"
            )
            if cursor.fetchone() == (0,):
                return
        time.sleep(0.5)
    raise TimeoutError("The worker doesn't come to an end with the periodic jobs.")
