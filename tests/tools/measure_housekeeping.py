"""Measure how much buyers are slowed down while the shop tidies up.

    python -m tests.tools.measure_housekeeping [--lapsed N] [--rounds N] [--rate N]

In a scratch database, N holds of one product have lapsed. They are taken back while buyers come at
a given rate for the same product, and for another one. Each round also measures the same buyers
while nothing is tidied up. Then as many old reservations are deleted while buyers come.
"""

from __future__ import annotations

import argparse
import os
import statistics
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import django

from tests.tools.drills import ErrorsFirstParser, unwind_on_sigterm

if TYPE_CHECKING:
    from inventory.experiments.load import Processes
    from inventory.models import Product

INSERT_LAPSED = """
    INSERT INTO inventory_reservation (id, product_id, quantity, returned, unit_price, status,
        buyer, expires_at, idempotency_key, strategy, created_at)
    SELECT gen_random_uuid(), %(product_id)s, 1, 0, 9.99, 'HELD', 'lapsed-' || n,
        now() - interval '1 minute', %(round)s || '-' || n, 'combined', now() - interval '1 hour'
    FROM generate_series(1, %(number)s) AS n
"""
TAKE_FROM_STOCK = """
    UPDATE inventory_product SET stock = stock - %(number)s, version = version + 1
    WHERE id = %(product_id)s
"""


def main() -> None:
    parser = ErrorsFirstParser(
        prog="python -m tests.tools.measure_housekeeping", description=__doc__
    )
    parser.add_argument("--lapsed", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rate", type=int, default=200, help="buyers a second (200)")
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement (5)")
    options = parser.parse_args()
    unwind_on_sigterm()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
    django.setup()
    from inventory.experiments.load import processes
    from inventory.races.scratch import scratch_database

    with scratch_database(), processes(2, "housekeeping") as started:
        measure(started, options)


def measure(started: Processes, options: argparse.Namespace) -> None:
    """Print a line for each round and kind of buyer, and the medians of the ratios."""
    from inventory import reservations
    from inventory.experiments.benchmark.shapes import OPEN_LOOP, SHAPES, exhibits, tidy_tables

    shape = SHAPES[OPEN_LOOP]
    ratios: dict[str, list[float]] = {}

    def compare(what: str, product: Product, tidy_up: Callable[[], object]) -> None:
        tidy_tables()
        quiet = p99(started, product, options)
        busy, seconds = while_doing(tidy_up, partial(p99, started, product, options))
        ratios.setdefault(what, []).append(busy / quiet)
        print(f"{what:42} p99 {quiet:6.1f} → {busy:6.1f} ms, done in {seconds:.1f} s", flush=True)

    for round_ in range(options.rounds):
        with exhibits(shape, f"a-{round_}") as [tidied], exhibits(shape, f"b-{round_}") as [other]:
            for what, product in (("the same product", tidied), ("another product", other)):
                lapse(tidied, options.lapsed, f"{round_}-{what}")
                compare(f"taking back, buyers of {what}", product, reservations.expire_lapsed)
            age_ended()
            delete_ended = partial(reservations.delete_ended, timedelta(days=90))
            compare("deleting old ones, buyers of the product", tidied, delete_ended)
    for what, values in ratios.items():
        print(f"{what:42} p99 × {statistics.median(values):.2f} (median)")


def p99(started: Processes, product: Product, options: argparse.Namespace) -> float:
    """The p99 of buyers of this product who come at the given rate, in milliseconds."""
    from inventory.experiments.benchmark import rows
    from inventory.experiments.benchmark.buyers import Load
    from inventory.experiments.benchmark.buyers import measure as measure_buyers

    load = Load(buyers=32, seconds=options.seconds, warm_up=0.5, rate=options.rate)
    row = partial(rows.make_row, "combined")
    measured = measure_buyers(started, row, [product], load, is_sold_out=False)
    assert not measured.failed, measured.first_error
    return measured.p99_ms


def while_doing(work: Callable[[], object], measure: Callable[[], float]) -> tuple[float, float]:
    """Measure while the work is done in a thread; return the result and the work's seconds."""
    from django.db import connection

    seconds = 0.0

    def timed() -> None:
        nonlocal seconds
        began = time.monotonic()
        work()
        seconds = time.monotonic() - began
        connection.close()

    beside = threading.Thread(target=timed)
    beside.start()
    measured = measure()
    beside.join()
    return measured, seconds


def lapse(product: Product, number: int, round_: str) -> None:
    """Make so many lapsed holds of the product."""
    from django.db import connection, transaction

    with transaction.atomic(), connection.cursor() as cursor:
        values: dict[str, int | str] = {
            "product_id": product.pk,
            "number": number,
            "round": round_,
        }
        cursor.execute(TAKE_FROM_STOCK, values)
        cursor.execute(INSERT_LAPSED, values)


def age_ended() -> None:
    """Date ended reservations back by a year."""
    from inventory.models import Reservation

    ended = Reservation.objects.filter(status=Reservation.Status.EXPIRED)
    ended.update(decided_at="2020-01-01T00:00:00Z")


if __name__ == "__main__":
    main()
