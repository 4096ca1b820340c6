"""The report: the dearest statements with their plans, the costs, and the statements that grow."""

from __future__ import annotations

from tests.tools.dearest_statements.costs import HEADING, Cost
from tests.tools.dearest_statements.statements import Growth, Statement, compare

SHOWN = 10
WIDTH = 150

# Why a statement may grow: with what it grows, and who bears that. BY_NATURE finds it by its words.
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


def report(
    in_small: list[Statement],
    in_large: list[Statement],
    dearest: list[Statement],
    plans: dict[int, str],
    costs: list[Cost],
) -> bool:
    """Print what was found; return whether a statement grows that mustn't."""
    growth = compare(in_small, in_large)
    print_dearest(dearest, growth)
    print_plans(dearest[:SHOWN], plans)
    print(f"\n{HEADING}")
    for cost in costs:
        print(cost)
    return print_grown(growth)


def print_dearest(dearest: list[Statement], growth: dict[str, Growth]) -> None:
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


def print_plans(statements: list[Statement], plans: dict[int, str]) -> None:
    for number, statement in enumerate(statements, 1):
        print(f"\nPlan of {number}: {statement.in_short(WIDTH)}\n")
        print(plans.get(statement.key, "It didn't run while plans were taken."))


def print_grown(growth: dict[str, Growth]) -> bool:
    """Print the statements that grow; return whether one of them mustn't."""
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
