"""Figures of the database: one statement for each collector, sent when somebody scrapes.

They are the same from every process and machine. The database's clock decides how old something is.
A statement gets a second. If it fails, the figures of the other collectors are still there.

Nothing here adds up all reservations, which would take seconds in a busy shop. The units come from
the worker's last check of the law. It checks every minute, and ``shop_stock_check_seconds`` is the
age of that check.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from django.db import DatabaseError, InterfaceError, connection, transaction
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from inventory.law import HAS_LAPSED
from inventory.models import StockAlert
from shop.database_errors import is_outage
from shop.models import Dispute, Refund, ShopAlert

log = logging.getLogger(__name__)

MILLISECONDS_OF_STATEMENT = 1000


@dataclass(frozen=True)
class Family:
    """A gauge. It has at most one label."""

    name: str
    help: str
    label: str = ""


@dataclass(frozen=True)
class Collector:
    """Families that one statement fills."""

    name: str
    families: tuple[Family, ...]
    sql: str
    """Its rows: a family's name, the value of its label, the value (null: nobody knows)."""


# Each statement makes one row, and of its columns the rows to show.
ROWS = "SELECT name, label, value FROM ({one_row}) AS figures, LATERAL (VALUES {rows}) AS {names}"
NAMES = "shown (name, label, value)"


def sql_of(one_row: str, **columns: dict[str, str]) -> str:
    """The statement that shows columns of ``one_row``.

    ``columns`` are, for each family without its prefix ``shop_``, the values of its label, each
    with its column.
    """
    rows = ", ".join(
        f"('shop_{family}', '{label}', ({column})::float8)"
        for family, of_label in columns.items()
        for label, column in of_label.items()
    )
    return ROWS.format(one_row=one_row, rows=rows, names=NAMES)


def seconds_since(time: str) -> str:
    """The age of a time, in SQL: null if that is null, zero for a time that is still to come."""
    age = f"extract(epoch FROM statement_timestamp() - {time})"
    return f"CASE WHEN {age} < 0 THEN 0 ELSE {age} END"


def alerts_by_kind(table: str, kinds: Iterable[str], further: str = "") -> str:
    """The numbers of open alerts, in SQL, for each of these kinds."""
    values = ", ".join(f"('{kind}')" for kind in kinds)
    return f"""
        SELECT 'shop_alerts_open', lower(kinds.kind), count(alert.id)::float8
        FROM (VALUES {values}) AS kinds (kind)
        LEFT JOIN {table} AS alert
            ON alert.kind = kinds.kind AND alert.resolved_at IS NULL {further}
        GROUP BY kinds.kind
    """


def counts_of(table: str, states: Iterable[str]) -> str:
    """The columns that count the rows in these states, in SQL, each named as its state.

    Each is a subquery of its own, so that an index of rows in one state can serve it.
    """
    return ", ".join(
        f"(SELECT count(*) FROM {table} WHERE state = '{state}') AS {state.lower()}"
        for state in states
    )


def named(*columns: str) -> dict[str, str]:
    """Columns that are named as the values of the label."""
    return {column: column for column in columns}


NOT_OF_EXHIBITS = """
    AND NOT EXISTS (SELECT FROM inventory_product AS product
        WHERE product.id = alert.product_id AND product.is_exhibit)
"""
# In a shop that has been open for long, nearly all payments are paid or declined. Indexes alone
# answer this. None has the declined ones, and the table itself is large.
PAYMENTS = """
    SELECT started, paid, in_all - started - paid AS declined FROM (
        SELECT (SELECT count(*) FROM shop_payment WHERE state = 'STARTED') AS started,
            (SELECT count(*) FROM shop_payment WHERE state = 'PAID') AS paid,
            (SELECT count(*) FROM shop_payment) AS in_all
    ) AS counts
"""
REFUND_STATES = [Refund.State.DUE.value, Refund.State.FAILED.value]
DISPUTE_STATES = [state.value for state in Dispute.State]

# A job that could start now: since it was queued, or since the time for which it was planned.
WAITING_JOBS = """
    SELECT count(*) AS waiting,
        least(
            min(scheduled_at),
            (SELECT min(at) FROM procrastinate_events AS event
                WHERE event.job_id = min(job.id) FILTER (WHERE scheduled_at IS NULL))
        ) AS oldest
    FROM procrastinate_jobs AS job
    WHERE status = 'todo' AND coalesce(scheduled_at <= statement_timestamp(), true)
"""
# A worker shows every ten seconds, and queues jobs every minute. When it stops in order, its own
# row goes, and the time of those jobs stays.
WORKER_SEEN = """
    SELECT greatest(
        (SELECT max(last_heartbeat) FROM procrastinate_workers),
        (SELECT to_timestamp(max(defer_timestamp)) FROM procrastinate_periodic_defers)
    ) AS seen
"""

COLLECTORS = (
    Collector(
        "stock",
        (
            Family("shop_stock_units", "Units, by the last check of the law.", "state"),
            Family("shop_stock_oversold_units", "Units promised that do not exist."),
            Family("shop_stock_drift_units", "Units lost or leaked: the law's error, by size."),
            Family("shop_stock_check_seconds", "Since the last check of the law; NaN: none yet."),
        ),
        sql_of(
            "SELECT check_.* FROM (SELECT 1) AS always"
            " LEFT JOIN inventory_stockcheck AS check_ ON check_.id = 1",
            stock_units=named("available", "held", "sold"),
            stock_oversold_units={"": "oversold"},
            stock_drift_units={"": "drift"},
            stock_check_seconds={"": seconds_since("checked_at")},
        ),
    ),
    Collector(
        "lapsed_holds",
        (Family("shop_lapsed_holds", "Holds that have lapsed and are not taken back yet."),),
        sql_of(
            f"SELECT count(*) AS holds FROM inventory_reservation WHERE {HAS_LAPSED}",
            lapsed_holds={"": "holds"},
        ),
    ),
    Collector(
        "alerts",
        (Family("shop_alerts_open", "Open alerts, without those of exhibits.", "kind"),),
        alerts_by_kind("inventory_stockalert", StockAlert.Kind.values, NOT_OF_EXHIBITS)
        + " UNION ALL "
        + alerts_by_kind("shop_shopalert", ShopAlert.Kind.values),
    ),
    Collector(
        "payments",
        (Family("shop_payments", "Payments.", "state"),),
        sql_of(PAYMENTS, payments=named("started", "paid", "declined")),
    ),
    Collector(
        "unsettled_payments",
        (
            Family(
                "shop_payment_oldest_unsettled_seconds",
                "Since the oldest payment began whose end is unknown; 0: there is none.",
            ),
        ),
        sql_of(
            "SELECT min(started_at) AS oldest FROM shop_payment WHERE state = 'STARTED'",
            payment_oldest_unsettled_seconds={"": f"coalesce({seconds_since('oldest')}, 0)"},
        ),
    ),
    Collector(
        "refunds",
        (Family("shop_refunds", "Refunds that buyers have not got yet.", "state"),),
        sql_of(
            f"SELECT {counts_of('shop_refund', REFUND_STATES)}",
            refunds=named(*(state.lower() for state in REFUND_STATES)),
        ),
    ),
    Collector(
        "disputes",
        (Family("shop_disputes", "Disputes.", "state"),),
        sql_of(
            f"SELECT {counts_of('shop_dispute', DISPUTE_STATES)}",
            disputes=named(*(state.lower() for state in DISPUTE_STATES)),
        ),
    ),
    Collector(
        "jobs",
        (
            Family("shop_jobs_waiting", "Background jobs that could start now."),
            Family(
                "shop_job_oldest_waiting_seconds",
                "Since the oldest waiting job could have started; 0: none waits.",
            ),
        ),
        sql_of(
            WAITING_JOBS,
            jobs_waiting={"": "waiting"},
            job_oldest_waiting_seconds={"": f"coalesce({seconds_since('oldest')}, 0)"},
        ),
    ),
    Collector(
        "failed_jobs",
        (Family("shop_jobs_failed", "Background jobs that were given up."),),
        sql_of(
            "SELECT count(*) AS failed FROM procrastinate_jobs WHERE status = 'failed'",
            jobs_failed={"": "failed"},
        ),
    ),
    Collector(
        "worker",
        (
            Family(
                "shop_worker_seen_seconds",
                "Since a worker last gave a sign of life; NaN: none ever did.",
            ),
        ),
        sql_of(WORKER_SEEN, worker_seen_seconds={"": seconds_since("seen")}),
    ),
)

FAMILIES = {
    family.name: (family.label,) if family.label else ()
    for collector in COLLECTORS
    for family in collector.families
}
"""The names of all families here, each with its labels."""

# Without a value these would look wrong, or right, though nobody knows: they are left out.
LEFT_OUT_IF_UNKNOWN = {
    "shop_stock_units",
    "shop_stock_oversold_units",
    "shop_stock_drift_units",
}


def collect() -> Iterator[tuple[str, list[Metric]]]:
    """Query the database; yield each collector's name, with its families or, if it failed, none.

    Once the database can't be reached, no further statement is sent.
    """
    is_away = False
    for collector in COLLECTORS:
        metrics: list[Metric] = []
        try:
            if not is_away:
                metrics = _query(collector)
        except (DatabaseError, InterfaceError) as error:
            is_away = is_outage(error)
            log.warning("The figures of %s can't be had: %s", collector.name, error)
        yield collector.name, metrics


def _query(collector: Collector) -> list[Metric]:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config('statement_timeout', %s, true)", [str(MILLISECONDS_OF_STATEMENT)]
        )
        cursor.execute(collector.sql)
        rows = cursor.fetchall()
    found = {
        family.name: GaugeMetricFamily(
            family.name, family.help, labels=[family.label] if family.label else None
        )
        for family in collector.families
    }
    for name, label, value in rows:
        if value is not None or name not in LEFT_OUT_IF_UNKNOWN:
            labels = [label] if label else []
            found[name].add_metric(labels, math.nan if value is None else value)
    return list(found.values())
