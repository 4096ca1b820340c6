"""The command http_benchmark: the speed of the shop's pages, and of reserving on them."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from inventory.experiments.benchmark.run import BenchmarkError, Parameters
from inventory.experiments.benchmark.shapes import HOT
from inventory.experiments.management.benchmarks import BenchmarkCommand
from inventory.experiments.parameters import check_within
from inventory.races.errors import Misuse
from inventory.races.scratch import scratch_database
from inventory.words import counted
from shop.load_tests.http_benchmark import rows
from shop.load_tests.serving import NotServed, ServedShop

MOST_WORKERS, MOST_THREADS = 64, 256


class Command(BenchmarkCommand):
    help = (
        "Serve the shop with gunicorn on a scratch database, and measure how many buyers a second "
        "reserve a product by each safe strategy, through the form on its page (with cookie and "
        "CSRF token). For comparison, measure the same form without a guard, the product's page, "
        "and its stock fragment, which reads one row. They all take turns, round after round, and "
        "the law is checked after each turn. Exits 1 if the law is broken, or if a buyer got no "
        "answer."
    )
    default = Parameters(shapes=[HOT], buyers=[32], processes=1, course=rows.course())

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--workers", type=int, default=2, help="gunicorn's processes (%(default)s)"
        )
        parser.add_argument(
            "--threads", type=int, default=16, help="of each of those (%(default)s)"
        )

    def parameters(self, **options: Any) -> Parameters:
        for name, most in (("workers", MOST_WORKERS), ("threads", MOST_THREADS)):
            check_within(name, options[name], 1, most)
        return super().parameters(**options)

    @contextmanager
    def prepared(self, parameters: Parameters, **options: Any) -> Iterator[Parameters]:
        workers, threads = options["workers"], options["threads"]
        how_served = f"gunicorn: {counted(workers, 'worker')} × {counted(threads, 'thread')}."
        try:
            with scratch_database():
                shop = ServedShop(
                    {"WEB_CONCURRENCY": str(workers), "WEB_THREADS": str(threads)},
                    gunicorn_conf="shop.load_tests.http_benchmark.gunicorn_conf",
                )
                try:
                    shop.start_web()
                    yield replace(parameters, course=rows.course(shop.host, shop.port, how_served))
                finally:
                    shop.stop()
        except (Misuse, NotServed) as error:
            raise BenchmarkError(str(error)) from error
