"""The rows of the benchmark over HTTP: reserving by each strategy, and two pages that only read.

Each buyer has been to the product's page already, and has its signed cookie and the token of its
form. These pages are fetched before the start. Many buyers then take turns on each connection, so
that their baskets stay as small as those of people.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager
from http import HTTPStatus
from urllib.parse import urlencode
from uuid import uuid4

from django.urls import reverse

from inventory.exceptions import InsufficientStock
from inventory.experiments.benchmark.rows import INSERT_ONLY, InsertOnly, Row
from inventory.experiments.benchmark.run import Course
from inventory.experiments.benchmark.shapes import Shape, exhibits
from inventory.models import Product
from shop.load_tests.http_benchmark.client import Answer, Client

STOCK_FRAGMENT, PRODUCT_PAGE = "stock fragment", "product page"
BROWSERS = 60  # of each client, in turn
TOKEN = re.compile(rb'name="csrfmiddlewaretoken" value="([^"]+)"')


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


# The idle ones of this process: they are kept from one row to the next.
_idle: deque[Browsers] = deque()


class HttpRow(Row):
    """A request that buyers send to the shop at ``host:port``."""

    def __init__(self, name: str, host: str, port: int) -> None:
        self.name = name
        self.guards = name not in (INSERT_ONLY, STOCK_FRAGMENT, PRODUCT_PAGE)
        self._where = host, port
        self._threads = threading.local()

    def connect(self, products: Sequence[Product]) -> None:
        try:
            browsers = _idle.popleft()
        except IndexError:
            browsers = Browsers(Client(*self._where))
        browsers.visit(reverse("product", args=[products[0].slug]))
        browsers.client.close()  # else the server would close it while we wait for the others
        self._threads.browsers = browsers

    def disconnect(self) -> None:
        self._threads.browsers.client.close()
        _idle.append(self._threads.browsers)

    def act(self, product: Product, buyer: str) -> None:
        browsers: Browsers = self._threads.browsers
        if self.name == STOCK_FRAGMENT:
            _check(browsers.client.get(reverse("product-stock", args=[product.slug])), 200)
        elif self.name == PRODUCT_PAGE:
            _check(browsers.client.get(reverse("product", args=[product.slug])), 200)
        else:
            _reserve(browsers, product)


def _reserve(browsers: Browsers, product: Product) -> None:
    """Send the form of the product's page. Raises InsufficientStock."""
    cookies, token = browsers.next_buyer()
    form = {
        "csrfmiddlewaretoken": token,
        "product": product.slug,
        "quantity": 1,
        "key": uuid4(),
    }
    answer = browsers.client.post(reverse("basket-holds"), cookies, urlencode(form).encode())
    if answer.status == HTTPStatus.CONFLICT:
        raise InsufficientStock(product.sku, 1, 0)
    _check(answer, HTTPStatus.FOUND)


def _check(answer: Answer, status: int) -> None:
    if answer.status != status:
        raise ConnectionError(f"The shop answered {answer.status} instead of {status}.")


class MakeRow:
    """Make rows for the shop at ``host:port``. An instance can be pickled."""

    def __init__(self, host: str, port: int) -> None:
        self.where = host, port

    def __call__(self, name: str) -> HttpRow:
        return HttpRow(name, *self.where)


def course(host: str = "", port: int = 0, how_served: str = "") -> Course:
    """The rows to measure on the shop at ``host:port``."""
    return Course(
        MakeRow(host, port),
        _products,
        ceilings=(INSERT_ONLY, STOCK_FRAGMENT),
        more_rows=(PRODUCT_PAGE,),
        notes=(
            "Strategies, and insert only, which guards nothing, post the form to reserve.",
            "Stock fragment, which reads the product's row, and product page only read.",
            f"Closed loop: each buyer comes again as soon as served. {how_served}",
        ),
    )


def _products(shape: Shape, row: str, name: str) -> AbstractContextManager[list[Product]]:
    """Products of the row's strategy, which the shop looks up in the product."""
    slugs = {STOCK_FRAGMENT: "", PRODUCT_PAGE: "", INSERT_ONLY: InsertOnly.slug}
    strategy = slugs.get(row, row)
    return exhibits(shape, name, is_exhibit=False, strategy=strategy)
