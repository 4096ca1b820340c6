"""Everything that is still to be done, once all programs are up and all buyers have gone."""

from __future__ import annotations

from collections.abc import Collection

from django.db import connection

from shop.jobs import IS_QUEUED_ONCE
from tests.stripe_standin.remote import StandinProcess
from tests.tools.drills import in_words

# A job that waits for its first start at a later time isn't late: it is meant to wait. Of jobs that
# are queued again and again, the next one does what a failed one has left.
JOBS = f"""
    SELECT task_name || ' ' || status, count(*) FROM procrastinate_jobs
    WHERE status = 'doing' OR {IS_QUEUED_ONCE} AND (
        status = 'failed'
        OR status = 'todo' AND (attempts > 0 OR coalesce(scheduled_at, now()) <= now())
    )
    GROUP BY 1
"""


def find_unfinished(standin: StandinProcess, missing_mails: Collection[str]) -> str:
    """All that is still to be done, in words; empty if nothing is left."""
    from collections import Counter

    from inventory.models import Reservation, StockAlert
    from shop.models import Payment, Refund, ShopAlert

    found: Counter[str] = Counter(
        {
            "payments not settled": Payment.objects.filter(state=Payment.State.STARTED).count(),
            "refunds due": Refund.objects.filter(state=Refund.State.DUE).count(),
            "refunds failed": Refund.objects.filter(state=Refund.State.FAILED).count(),
            "holds of closed orders": Reservation.objects.held()
            .filter(order_line__order__closed_at__isnull=False)
            .count(),
            "messages of the bank": len(standin.webhooks.queued()),
            "e-mails not sent": len(missing_mails),
        }
    )
    for alert in [*StockAlert.objects.filter(resolved_at=None), *ShopAlert.objects.open()]:
        found[f"open alerts “{alert}”"] += 1
    with connection.cursor() as cursor:
        cursor.execute(JOBS)
        found.update({f"jobs {name}": number for name, number in cursor.fetchall()})
    return in_words(+found)
