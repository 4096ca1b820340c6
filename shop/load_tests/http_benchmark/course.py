"""The benchmark over HTTP as a course of turns: its rows, their products, and how each is measured.

A row counts only if every answer was the expected one, if the shop's database has a unit for each
buyer who was told "reserved", and if no process of the web server ended meanwhile.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from uuid import uuid4

from django.utils.crypto import get_random_string

from inventory.experiments.benchmark.buyers import Load, Measurement
from inventory.experiments.benchmark.run import Course, Measure, buyers_in_processes
from inventory.experiments.benchmark.shapes import SHAPES, SOLD_OUT, Shape, exhibits
from inventory.models import Product
from inventory.reservations import reserve
from shop.load_tests.http_benchmark import rows, wrk
from shop.load_tests.http_benchmark.beside import OtherShop
from shop.load_tests.http_benchmark.books import Figures
from shop.load_tests.http_benchmark.buyers import Buyers, MakeRow, PythonBuyers, WrkBuyers
from shop.load_tests.http_benchmark.rows import (
    LANE,
    ORDER_LIST,
    ORDER_LIST_IN_RUSH,
    PURCHASE,
    RESERVE,
    Row,
    find_row,
)
from shop.load_tests.http_benchmark.servers import Server
from shop.load_tests.http_benchmark.visitors import own_cookies
from shop.models import Order
from shop.orders import checkout

BUYERS_TO_WARM_UP = 32
BUYERS_OF_RUSH = 256
SECONDS_OF_RUSH = 1.0  # before the page beside it is measured
ORDERS_OF_BUYER = 3
SECONDS_BETWEEN_TURNS = 2.0  # roughly: products, calming down, checking


@dataclass
class Turns:
    """The turns of all rows on servers that run."""

    servers: dict[str, Server]
    beside: OtherShop | None
    with_wrk: bool
    cookies: dict[str, str] = field(default_factory=dict)
    """The Cookie header of the buyer who has orders, by the product's slug."""

    @contextmanager
    def buyers(self, number: int, name: str) -> Iterator[Measure]:
        """Start the load generator."""
        if self.with_wrk:
            yield partial(self.measure, WrkBuyers(self.cookies))
            return
        where = {way: (each.shop.host, each.shop.port) for way, each in self.servers.items()}
        with buyers_in_processes(number, name, MakeRow(where)) as measure:
            yield partial(self.measure, PythonBuyers(measure))

    @contextmanager
    def products(self, shape: Shape, row_name: str, name: str) -> Iterator[list[Product]]:
        """Make the row's product in the database of its server."""
        row = find_row(row_name)
        server = self.servers[row.way]
        made = self._own_product if server.is_own else self._product_beside
        with made(server, row, shape, name) as product:
            try:
                yield [product]
            finally:
                server.wait_until_calm()
                server.books.delete_dependents()

    @contextmanager
    def _own_product(self, server: Server, row: Row, shape: Shape, name: str) -> Iterator[Product]:
        of_shape = SHAPES[SOLD_OUT] if row.act == rows.SOLD_OUT else shape
        with exhibits(of_shape, name, is_exhibit=False, strategy=row.strategy) as [product]:
            if row.act in (ORDER_LIST, ORDER_LIST_IN_RUSH):
                self.cookies[product.slug] = _place_orders(product)
            yield product

    @contextmanager
    def _product_beside(
        self, server: Server, row: Row, shape: Shape, name: str
    ) -> Iterator[Product]:
        assert self.beside is not None
        product = Product(slug=f"bench-{name}", price="9.99")
        is_sold_out = row.act == rows.SOLD_OUT
        self.beside.make_product(server.books.url, product.slug, is_sold_out=is_sold_out)
        server.books.tidy()
        yield product
        server.books.delete_holds(product.slug)

    def measure(
        self,
        buyers: Buyers,
        row_name: str,
        products: list[Product],
        load: Load,
        *,
        is_sold_out: bool,
    ) -> Measurement:
        """Measure one row; afterwards its buyers have nothing, for the rows to come."""
        row, product = find_row(row_name), products[0]
        server = self.servers[row.way]
        try:
            return self._measure_row(buyers, row, product, load)
        finally:
            if row.act != rows.SOLD_OUT:  # of which an earlier buyer holds the last unit
                server.wait_until_calm()
                server.books.release_holds(product.slug)
                server.books.tidy()

    def _measure_row(self, buyers: Buyers, row: Row, product: Product, load: Load) -> Measurement:
        """Measure it after a warm-up and a pause in which the server finishes."""
        server = self.servers[row.way]
        if load.warm_up:
            few = min(load.buyers, BUYERS_TO_WARM_UP)
            warm_up = buyers.act(row, server, product, buyers=few, seconds=load.warm_up)
            if warm_up.bad and not warm_up.good:
                return Measurement(0.0, 0.0, 0.0, warm_up.bad, warm_up.first_bad)
        server.wait_until_calm()
        if row.act == ORDER_LIST_IN_RUSH:
            return self._measure_in_rush(buyers, row, product, load)
        before, books_before = server.processor_seconds(), server.books.figures(product.slug)
        generator_before, begun = buyers.processor_seconds(), time.monotonic()
        answers = buyers.act(row, server, product, buyers=load.buyers, seconds=load.seconds)
        passed = time.monotonic() - begun
        generator = buyers.processor_seconds() - generator_before
        after, books_after = server.processor_seconds(), server.books.figures(product.slug)
        used = sum(after.values()) - sum(before.values())
        measured = Measurement(
            per_second=answers.per_second,
            p50_ms=answers.p50_ms,
            p99_ms=answers.p99_ms,
            failed=answers.bad,
            first_error=answers.first_bad,
            server_ms=1000 * used / answers.good if answers.good else None,
            generator_share=generator / passed / (os.cpu_count() or 1),
        )
        wrong = problem_in_books(row, answers.good, books_before, books_after)
        if not answers.good and not answers.bad:
            wrong = "No buyer was answered in this time."
        if after.keys() != before.keys():
            wrong = "A process of the web server ended, or began, while it was measured."
        return _failed(measured, wrong) if wrong else measured

    def _measure_in_rush(
        self, buyers: Buyers, row: Row, product: Product, load: Load
    ) -> Measurement:
        """Measure a page while very many buyers reserve by the fast lane of the same server."""
        assert isinstance(buyers, WrkBuyers)
        server = self.servers[row.way]
        whole = load.seconds + 2 * SECONDS_OF_RUSH
        rush = buyers.begin(
            Row(RESERVE, LANE), server, product, buyers=BUYERS_OF_RUSH, seconds=whole
        )
        try:
            time.sleep(SECONDS_OF_RUSH)
            answers = buyers.act(row, server, product, buyers=load.buyers, seconds=load.seconds)
            others = rush.answers()
        finally:
            rush.end()
        return Measurement(
            per_second=answers.per_second,
            p50_ms=answers.p50_ms,
            p99_ms=answers.p99_ms,
            failed=answers.bad + others.bad,
            first_error=answers.first_bad or others.first_bad,
            beside_per_second=others.per_second,
        )

    def keeps_law(self, row_name: str, products: list[Product]) -> bool:
        server = self.servers[find_row(row_name).way]
        return server.books.figures(products[0].slug).keeps_law


def _place_orders(product: Product) -> str:
    """Place orders of a new buyer; return the Cookie header of that buyer."""
    key = get_random_string(32)
    for number in range(ORDERS_OF_BUYER):
        hold = reserve(product, 1, buyer=key)
        order = Order(name="Buyer", email=f"buyer-{number}@example.org", street="1 Market Street")
        checkout.place_order(key, [hold.pk], order, idempotency_key=str(uuid4()))
    return own_cookies(key)


def problem_in_books(row: Row, good: int, before: Figures, after: Figures) -> str:
    """The contradiction between the answers and the database; empty if there is none."""
    if row.act == rows.SOLD_OUT and after.promised != before.promised:
        return "Units of a sold-out product were reserved."
    written = after.promised - before.promised
    if row.posts and row.act != rows.SOLD_OUT and written < good:
        return f"{good:,} buyers were told “reserved”, and {written:,} have a hold."
    paid = after.paid_orders - before.paid_orders
    if row.act == PURCHASE and paid < good:
        return f"{good:,} buyers were told “paid”, and {paid:,} orders are."
    return ""


def _failed(measured: Measurement, why: str) -> Measurement:
    return replace(measured, failed=measured.failed + 1, first_error=measured.first_error or why)


def course(
    ways: Sequence[str],
    buyers: Sequence[int],
    *,
    with_wrk: bool,
    turns: Turns | None = None,
    how_served: str = "",
) -> Course:
    """The rows of these ways. Without ``turns`` nothing can be measured yet."""
    turns = turns or Turns({}, None, with_wrk)
    all_rows = rows.all_rows(ways, with_wrk=with_wrk)
    fewest = min(buyers, default=1)
    without_wrk = (
        ()
        if with_wrk
        else (f"Left out, since only wrk can measure them: {', '.join(rows.NEED_WRK)}.",)
    )
    return Course(
        choose_rows=partial(rows.chosen_rows, rows=all_rows),
        guards=lambda name: find_row(name).guards,
        buyers=turns.buyers,
        make_products=turns.products,
        keeps_law=turns.keeps_law,
        has_turn=lambda name, load: find_row(name).has_turn(load.buyers, fewest),
        comparisons=list(rows.comparisons(buyers, ways)),
        generator=wrk.version() if with_wrk and turns.servers else "",
        seconds_between_turns=SECONDS_BETWEEN_TURNS,
        notes=(
            *without_wrk,
            "Closed loop: each buyer comes again as soon as served. "
            "Strategies, and insert only, which guards nothing, are reserved by Django.",
            how_served,
        ),
    )
