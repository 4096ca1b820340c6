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
from tests.tools.dearest_statements.postgres import Cluster, NoServer
from tests.tools.drills import ErrorsFirstParser, unwind_on_sigterm

if TYPE_CHECKING:
    from tests.tools.dearest_statements.costs import Cost
    from tests.tools.dearest_statements.rush import Rush
    from tests.tools.dearest_statements.statements import Growth, Statement

SMALL, LARGE = "small", "large"
TIMES_LARGER = 100
SHOWN = 10
WIDTH = 150
SECONDS_OF_PLANS = 5.0

# Statements that may grow, by words of theirs; and with what, and who bears that.
WORKER_CHECKS = "the check of the law: by the worker alone, for a tenth of the time at most"
STAFF_SUMS = "staff's sums: of all stock, and of the sales of the days shown"
STAFF_FILTER = "staff's list: as many rows as the filter passes before it has a page"
MATCHES = "as many products as match a common word: they are sorted"
LISTED = "it ends after the products of a hundred pages"
ROWS_OF_PAGE = "as many rows as the page shows"
QUEUE = "the queue's jobs of the last three days"
METRICS = "the metrics' counts: a second at most, or they are left out"
OPEN = "as many as are open at the moment: holds, orders, payments, refunds, alerts"
BY_NATURE = {
    "recorded, CASE WHEN is_active": WORKER_CHECKS,
    "coalesce(sum(stock)": STAFF_SUMS,
    "date_trunc(": STAFF_SUMS,
    '"low_stock_threshold" >': STAFF_FILTER,
    'UPPER("shop_order"."name"::text) LIKE': STAFF_FILTER,
    'LEFT OUTER JOIN "shop_orderline" ON': STAFF_FILTER,
    'UPPER("inventory_product"."name"::text) LIKE': MATCHES,
    "WITH RECURSIVE with_holds": OPEN,
    'FROM "inventory_stockalert"': OPEN,
    'FROM "shop_refund" INNER JOIN': OPEN,
    'FROM "shop_payment" WHERE': OPEN,
    'FROM "shop_payment" INNER JOIN': OPEN,
    "SELECT count(*) FROM (SELECT": LISTED,
    '"inventory_reservation"."created_at" <=': ROWS_OF_PAGE,
    "procrastinate_defer_periodic_job": QUEUE,
    "FROM procrastinate_jobs": QUEUE,
    "SELECT name, label, value FROM": METRICS,
    'FROM "shop_order" WHERE ("shop_order"."state" = $1 AND NOT': OPEN,
    "shop_demobankcharge": "the demo bank's own table, which no real shop has",
    "FOR UPDATE SKIP LOCKED": "the night's deletions: as many rows as ended, a batch at a time",
}


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
    from tests.tools.dearest_statements.statements import counted_statements, forget_counts

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
    from tests.tools.dearest_statements.costs import measure_cost

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


def report(
    in_small: list[Statement],
    in_large: list[Statement],
    dearest: list[Statement],
    plans: dict[int, str],
    costs: list[Cost],
) -> bool:
    """Print what was found; return whether a statement grows that mustn't."""
    from tests.tools.dearest_statements.costs import HEADING
    from tests.tools.dearest_statements.statements import compare

    growth = compare(in_small, in_large)
    total = sum(statement.ms for statement in dearest)
    print("\nThe dearest statements (a time includes waiting for locks)\n")
    print(f"{'':3} {'share':>6} {'calls':>9} {'mean ms':>9} {'rows':>9} {'pages':>9}  grows")
    for number, statement in enumerate(dearest[:SHOWN], 1):
        print(
            f"{number:2}. {statement.ms / total:6.1%} {statement.calls:9,} "
            f"{statement.ms_per_call:9.3f} {statement.rows / statement.calls:9.1f} "
            f"{statement.pages_per_call:9.1f}  {in_words(statement, growth)}"
        )
        print(f"    {statement.in_short(WIDTH)}")
    for number, statement in enumerate(dearest[:SHOWN], 1):
        print(f"\nPlan of {number}: {statement.in_short(WIDTH)}\n")
        print(plans.get(statement.key, "It didn't run while plans were taken."))
    print(f"\n{HEADING}")
    for cost in costs:
        print(cost)
    grown = [each for each in growth.values() if each.grows]
    grown.sort(key=lambda each: each.large.pages_per_call, reverse=True)
    print(
        f"\n{len(growth)} statements ran at both sizes. These grow (pages per call, small → large):"
    )
    for each in grown:
        print(
            f"{each.small.pages_per_call:9.1f} → {each.large.pages_per_call:9.1f}, "
            f"{each.large.ms_per_call:9.1f} ms, {each.large.calls:,} calls, "
            f"{reason_of(each.large) or 'MUST NOT'}\n    {each.large.in_short(4 * WIDTH)}"
        )
    return any(not reason_of(each.large) for each in grown)


def in_words(statement: Statement, growth: dict[str, Growth]) -> str:
    """Whether a statement grows with the tables, and by how much."""
    found = growth.get(statement.sql)
    if found is None:
        return "ran in the large tables only"
    pages = f"{found.small.pages_per_call:.1f} → {found.large.pages_per_call:.1f}"
    return f"{'yes' if found.grows else 'no'} ({pages})"


def reason_of(statement: Statement) -> str:
    """Why the statement may grow; empty if it mustn't."""
    sql = " ".join(statement.sql.split())
    return next((why for words, why in BY_NATURE.items() if words in sql), "")


if __name__ == "__main__":
    main()
