"""Find the statements that cost the most in a rush, and those that grow with the tables.

    python -m tests.tools.dearest_statements [--seconds N] [--reservations N] [--products N]
                                             [--orders N] [--keep DIR]

A PostgreSQL of its own counts the statements (pg_stat_statements), on two databases: one with the
numbers given, and one with a hundredth of them. gunicorn with the fast lane, and a worker, serve
a rush on each: reservations of two hot products, whole purchases, pages, lists, searches, the
admin's pages, the worker's periodic jobs, and a scrape of the metrics. A statement grows if
it reads more pages of the database per call: its time would tell of the machine.

``--keep`` names a directory in which the filled databases stay, for the next run.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

import django

from inventory.races.management.output import whole_number
from tests.tools.dearest_statements.costs import Cost, measure_cost
from tests.tools.dearest_statements.postgres import Cluster, NoServer
from tests.tools.dearest_statements.report import report
from tests.tools.dearest_statements.statements import (
    Statement,
    counted_statements,
    forget_counts,
)
from tests.tools.drills import ErrorsFirstParser, unwind_on_sigterm

if TYPE_CHECKING:  # it needs Django's settings
    from tests.tools.dearest_statements.rush import Rush

SMALL, LARGE = "small", "large"
TIMES_LARGER = 100
SECONDS_OF_PLANS = 5.0


def main() -> None:
    options = parse_options()
    unwind_on_sigterm()
    os.environ["DJANGO_SETTINGS_MODULE"] = "shop.settings"
    os.environ["PAGES_PER_ADDRESS"] = "off"
    try:
        with directory(options.keep) as home:
            grown = run(home, options)
    except NoServer as problem:
        print(problem, file=sys.stderr)
        sys.exit(2)
    sys.exit(1 if grown else 0)


def parse_options() -> argparse.Namespace:
    number = whole_number(1, 10**9)
    parser = ErrorsFirstParser(
        prog="python -m tests.tools.dearest_statements",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=number, default=60, help="of the rush (60)")
    parser.add_argument("--products", type=number, default=100_000)
    parser.add_argument("--reservations", type=number, default=1_000_000)
    parser.add_argument("--orders", type=number, default=200_000)
    parser.add_argument("--keep", type=made_directory, help="keep the databases in this directory")
    return parser.parse_args()


def made_directory(text: str) -> Path:
    """An option's directory, made if it isn't there."""
    try:
        Path(text).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text} can't be made: {error.strerror}") from None
    return Path(text)


@contextmanager
def directory(keep: Path | None) -> Iterator[Path]:
    """The directory of the databases: the one to keep, or one that is removed at the end."""
    if keep is not None:
        keep.chmod(0o755)  # the server may run as another user
        yield keep.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="dearest_") as made:
        Path(made).chmod(0o755)
        yield Path(made)


def run(home: Path, options: argparse.Namespace) -> bool:
    """Measure, and print the report; return whether a statement grows that mustn't."""
    with Cluster(home / "postgres").running() as cluster, (home / "log").open("wb") as log:
        os.environ["DATABASE_URL"] = cluster.url("postgres")
        django.setup()
        sizes = {"products": options.products, "reservations": options.reservations}
        sizes["orders"] = options.orders
        small = {what: max(1, number // TIMES_LARGER) for what, number in sizes.items()}
        short = max(10, options.seconds // 3)
        # Growth is told from the same rush at both sizes; then comes the long one.
        with rush(cluster, SMALL, small, log) as crowd:
            in_small = measure(cluster, SMALL, crowd, short)
        with rush(cluster, LARGE, sizes, log) as crowd:
            in_large = measure(cluster, LARGE, crowd, short)
            dearest = measure(cluster, LARGE, crowd, options.seconds)
            plans = explain(cluster, crowd)
            costs = measure_costs(cluster, crowd, options.seconds)
    return report(in_small, in_large, dearest, plans, costs)


@contextmanager
def rush(
    cluster: Cluster, database: str, numbers: dict[str, int], log: IO[bytes]
) -> Iterator[Rush]:
    """Serve the shop on a database with so many rows, which is filled if it isn't there."""
    from django.db import connection

    from tests.tools import fill_database
    from tests.tools.dearest_statements.rush import Rush

    connection.close()
    if fill_database.use(database):
        fill_database.fill(numbers)
    else:
        fill_database.migrate()
    with tempfile.TemporaryDirectory() as visitors:
        crowd = Rush(Path(visitors), log)
        with crowd.served():
            yield crowd
    for problem in dict.fromkeys(crowd.problems):
        print(f"{database}: {problem}", file=sys.stderr)
    answers = ", ".join(f"{what} {status}: {n:,}" for (what, status), n in crowd.answers.items())
    print(f"{database}: {crowd.reserved:,} reservations, {crowd.purchases:,} purchases, {answers}")


def measure(cluster: Cluster, database: str, crowd: Rush, seconds: float) -> list[Statement]:
    """The statements of a rush of so many seconds."""
    forget_counts(cluster)
    crowd.go_on(seconds)
    return counted_statements(cluster, database)


def explain(cluster: Cluster, crowd: Rush) -> dict[int, str]:
    """The plans of the statements of a short rush, with their real values, by statement."""
    cluster.explain_all(True)
    try:
        crowd.go_on(SECONDS_OF_PLANS)
    finally:
        cluster.explain_all(False)
    return cluster.plans()


def measure_costs(cluster: Cluster, crowd: Rush, seconds: float) -> list[Cost]:
    """The cost, for the database, of buyers who do nothing but reserve, or buy.

    It comes without the cost of the worker's jobs of every minute, which is measured first.
    """

    def wait() -> int:
        time.sleep(seconds)
        return 1

    idle = measure_cost(cluster, LARGE, f"{seconds:.0f} s of the worker", wait)
    acts = {
        "a reservation, by the lane": crowd.reserve_only,
        "a whole purchase": crowd.buy_only,
    }
    return [
        idle,
        *(
            measure_cost(cluster, LARGE, what, partial(act, seconds)).without(idle)
            for what, act in acts.items()
        ),
    ]


if __name__ == "__main__":
    main()
