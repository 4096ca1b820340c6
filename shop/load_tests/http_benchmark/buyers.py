"""The buyers of a row: wrk's where it is installed, else those of our own client in Python."""

from __future__ import annotations

import resource
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Protocol
from urllib.parse import urlencode
from uuid import uuid4

import psutil
from django.urls import reverse

from inventory.experiments.benchmark import rows as strategy_rows
from inventory.experiments.benchmark.buyers import Load
from inventory.experiments.benchmark.run import Measure
from inventory.models import Product
from shop.load_tests.http_benchmark.client import Answer, Client
from shop.load_tests.http_benchmark.rows import (
    ORDER_LIST,
    ORDER_LIST_IN_RUSH,
    PRODUCT_PAGE,
    PURCHASE,
    STOCK_FRAGMENT,
    Row,
    find_row,
)
from shop.load_tests.http_benchmark.servers import Server
from shop.load_tests.http_benchmark.visitors import TOKEN
from shop.load_tests.http_benchmark.wrk import Answers, Wrk

# Purchases under way at the end don't count. So few of them run at once, and for a longer time.
MOST_PURCHASES = 8
LONGER = 4
BROWSERS = 60  # of each Python client, in turn


class Buyers(Protocol):
    """A load generator."""

    def act(
        self, row: Row, server: Server, product: Product, *, buyers: int, seconds: float
    ) -> Answers:
        """Let so many buyers act over and over. Raises WrkFailed, NotReady."""

    def processor_seconds(self) -> float:
        """The processor time that they have used so far."""


class WrkBuyers:
    """The buyers of wrk."""

    def __init__(self, cookies: Mapping[str, str]) -> None:
        """``cookies`` has the Cookie header of pages that are a buyer's own, by product slug."""
        self._cookies = cookies

    def act(
        self, row: Row, server: Server, product: Product, *, buyers: int, seconds: float
    ) -> Answers:
        run = self.begin(row, server, product, buyers=buyers, seconds=seconds)
        return run.answers()

    def begin(
        self, row: Row, server: Server, product: Product, *, buyers: int, seconds: float
    ) -> Wrk:
        """Let them act while we do other things. The caller must wait for the answers."""
        script = "reserve" if row.posts else "purchase" if row.act == PURCHASE else "page"
        if row.act == PURCHASE:
            buyers, seconds = min(buyers, MOST_PURCHASES), seconds * LONGER
        variables = {
            "PATH": path_of(row, product),
            "PRODUCT": product.slug,
            "PRICE": str(product.price),
            "STATUS": str(row.status.value),
            "VISITORS": str(server.visitors),
        }
        if product.slug in self._cookies:
            variables["COOKIES"] = self._cookies[product.slug]
        return Wrk(
            script,
            server.shop.url,
            variables,
            connections=buyers,
            seconds=seconds,
            threads=buyers if row.act == PURCHASE else 1,
        )

    def processor_seconds(self) -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)  # of those that have ended
        return used.ru_utime + used.ru_stime


class PythonBuyers:
    """The buyers of our own client, in processes of their own."""

    def __init__(self, measure: Measure) -> None:
        self._measure = measure

    def act(
        self, row: Row, server: Server, product: Product, *, buyers: int, seconds: float
    ) -> Answers:
        load = Load(buyers, seconds=seconds, warm_up=0)
        measured = self._measure(row.name, [product], load, is_sold_out=False)
        return Answers(
            good=round(measured.per_second * seconds),
            per_second=measured.per_second,
            bad=measured.failed,
            first_bad=measured.first_error,
            p50_ms=measured.p50_ms,
            p99_ms=measured.p99_ms,
        )

    def processor_seconds(self) -> float:
        servers = ("gunicorn", "postgres", "wrk")
        total = 0.0
        for process in psutil.Process().children():
            if not any(name in " ".join(process.cmdline()) for name in servers):
                used = process.cpu_times()
                total += used.user + used.system
        return total


def path_of(row: Row, product: Product) -> str:
    """The address that the row's buyers ask first."""
    if row.act == STOCK_FRAGMENT:
        return reverse("product-stock", args=[product.slug])
    if row.act in (ORDER_LIST, ORDER_LIST_IN_RUSH):
        return reverse("orders")
    if row.act in (PRODUCT_PAGE, PURCHASE):
        return reverse("product", args=[product.slug])
    return reverse("basket-holds")


# In the processes of the Python client


class MakeRow:
    """Make the rows of a Python client, by their names. An instance can be pickled."""

    def __init__(self, where: Mapping[str, tuple[str, int]]) -> None:
        """``where`` has the host and the port of each way of serving."""
        self.where = where

    def __call__(self, name: str) -> HttpRow:
        row = find_row(name)
        return HttpRow(row, *self.where[row.way])


class Browsers:
    """A client's connection, and the cookies and tokens of many buyers who share it."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._buyers: deque[tuple[bytes, str]] = deque()

    def visit(self, path: str) -> None:
        """Let each buyer fetch a product's page, once for all rows."""
        while len(self._buyers) < BROWSERS:
            page = self.client.get(path)
            token = TOKEN.search(page.body)
            if token is None:
                raise ConnectionError(f"{path} has no form to reserve (status {page.status}).")
            self._buyers.append((page.cookies, token[1].decode()))

    def next_buyer(self) -> tuple[bytes, str]:
        """The cookies and the form token of the buyer whose turn it is."""
        self._buyers.rotate(-1)
        return self._buyers[0]


# The idle ones of this process, by port: they are kept from one row to the next.
_idle: dict[int, deque[Browsers]] = {}


class HttpRow(strategy_rows.Row):
    """A request that buyers send to the shop at ``host:port``."""

    def __init__(self, row: Row, host: str, port: int) -> None:
        self.name = row.name
        self.guards = row.guards
        self._row = row
        self._where = host, port
        self._threads = threading.local()

    def connect(self, products: Sequence[Product]) -> None:
        try:
            browsers = _idle.setdefault(self._where[1], deque()).popleft()
        except IndexError:
            browsers = Browsers(Client(*self._where))
        browsers.visit(reverse("product", args=[products[0].slug]))
        browsers.client.close()  # else the server would close it while we wait for the others
        self._threads.browsers = browsers

    def disconnect(self) -> None:
        self._threads.browsers.client.close()
        _idle[self._where[1]].append(self._threads.browsers)

    def act(self, product: Product, buyer: str) -> None:
        browsers: Browsers = self._threads.browsers
        if self._row.posts:
            answer = _reserve(browsers, product)
        else:
            answer = browsers.client.get(path_of(self._row, product))
        if answer.status != self._row.status:
            raise ConnectionError(
                f"The shop answered {answer.status} instead of {self._row.status.value}."
            )


def _reserve(browsers: Browsers, product: Product) -> Answer:
    """Send the form of the product's page."""
    cookies, token = browsers.next_buyer()
    form = {
        "csrfmiddlewaretoken": token,
        "product": product.slug,
        "seen_price": product.price,
        "quantity": 1,
        "key": uuid4(),
    }
    return browsers.client.post(reverse("basket-holds"), cookies, urlencode(form).encode())
