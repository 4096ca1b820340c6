"""Background work. While no worker runs, nothing is wrong: the shop is only less tidy.

Any number of workers may run, anywhere: ``manage.py procrastinate worker``. A job may run twice,
since the job of a killed worker is started again. So each calls a function that does its work
once, or that may be repeated without harm.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable

from procrastinate.builtin_tasks import remove_old_jobs
from procrastinate.contrib.django import app
from procrastinate.job_context import JobContext

from inventory import alerts as stock_alerts
from inventory import conf, import_files, reservations
from shop import logs, network_limits, orders, refusals, retries, shop_alerts
from shop.notifications import alert_delivery, order_mail, outbox
from shop.orders import refunds, statements
from shop.payments import ProviderUnavailable, demo

log = logging.getLogger(__name__)

EVERY_MINUTE = "* * * * *"
TWICE_A_MINUTE = "* * * * * */30"
SECONDS_IN_MINUTE = 60
EVERY_NIGHT = "0 4 * * *"
KEEP_JOBS = 72  # hours

patiently = retries.PatientRetryStrategy()


# Queued by the transaction of an order


@app.task(retry=patiently)
def send_order_paid(order_id: int) -> None:
    order_mail.send_order_paid(order_id)


@app.task(retry=patiently)
def send_order_shipped(order_id: int) -> None:
    order_mail.send_order_shipped(order_id)


@app.task(retry=patiently)
def send_order_refunded(refund_id: int) -> None:
    order_mail.send_order_refunded(refund_id)


@app.task(retry=patiently)
def send_order_cancelled(order_id: int, by: str) -> None:
    order_mail.send_order_cancelled(order_id, by)


@app.task(retry=patiently)
def send_order_to_managers(order_id: int) -> None:
    order_mail.send_order_to_managers(order_id)


@app.task(retry=patiently)
def carry_out_refund(refund_id: int) -> None:
    refunds.carry_out(refund_id)


@app.task(retry=patiently)
def send_demo_bank_event(charge_id: int, kind: str = "", number: int = 0) -> None:
    demo.send_event(charge_id, kind, number)


# Queued for alerts


@app.task(retry=patiently)
def mail_alerts(alert_ids: list[int], shop_alert_ids: list[int] | None = None) -> None:
    alert_delivery.mail_alerts(alert_ids, shop_alert_ids or [])


@app.task(retry=patiently)
def post_alert(alert_id: int) -> None:
    alert_delivery.post_stock_alert(alert_id)


@app.task(retry=patiently)
def post_shop_alert(alert_id: int) -> None:
    alert_delivery.post_shop_alert(alert_id)


# Done all the time. ``queueing_lock``: at most one of them waits, even if workers are late.


@app.periodic(cron=EVERY_MINUTE)
@app.task(queueing_lock="expire_lapsed")
def expire_lapsed(timestamp: int) -> None:
    reservations.expire_lapsed()


@app.periodic(cron=EVERY_MINUTE)
@app.task(queueing_lock="delete_ended_addresses", aliases=["shop.tasks.forget_addresses"])
def delete_ended_addresses(timestamp: int) -> None:
    network_limits.delete_ended_addresses()


@app.periodic(cron=TWICE_A_MINUTE)
@app.task(queueing_lock="settle_pending")
def settle_pending(timestamp: int) -> None:
    """Settle orders that a crash or a lost answer left open, and close abandoned ones."""
    _call_for_each(orders.settle, orders.unsettled_orders())
    _call_for_each(orders.close_abandoned, orders.abandoned_orders())


@app.periodic(cron=TWICE_A_MINUTE)
@app.task(queueing_lock="carry_out_refunds")
def carry_out_refunds(timestamp: int) -> None:
    """Carry out refunds whose own job gave up or was lost."""
    _call_for_each(refunds.carry_out, refunds.due_refunds())


@app.periodic(cron=EVERY_NIGHT)
@app.task(queueing_lock="look_into_payments")
def look_into_payments(timestamp: int) -> None:
    """Find the news of disputes and refunds whose messages from the provider were lost."""
    statements.look_into_recent()


@app.periodic(cron=EVERY_MINUTE)
@app.task(queueing_lock="check_law")
def check_law(timestamp: int) -> None:
    """Check every product, update the stock alerts, and send the new ones to the managers."""
    checks_of_law.run(_check_all_products)


def _check_all_products() -> None:
    stock_alerts.check_all()
    alert_delivery.queue_new_alerts()


class Paced:
    """Runs work for a tenth of the time at most, however long it takes.

    The check reads all products and reservations. In a shop with very many of them it comes less
    often than every minute, and the database has time for buyers.
    """

    SHARE = 0.1

    def __init__(self) -> None:
        self._rests_until = -math.inf

    def run(self, work: Callable[[], object]) -> None:
        """Run the work, unless it is to rest after the last time in this process."""
        began = time.monotonic()
        if began < self._rests_until:
            return
        work()
        seconds = (time.monotonic() - began) / self.SHARE
        if seconds > SECONDS_IN_MINUTE:  # else its next job comes late enough
            self._rests_until = began + seconds


checks_of_law = Paced()


@app.periodic(cron=EVERY_MINUTE)
@app.task(queueing_lock="watch")
def watch_for_trouble(timestamp: int) -> None:
    """Look for all other trouble that needs a person, and send new alerts to the managers."""
    shop_alerts.check_all()
    alert_delivery.queue_new_alerts()


@app.periodic(cron=EVERY_NIGHT)
@app.task(
    queueing_lock="delete_ended_reservations", aliases=["shop.tasks.forget_ended_reservations"]
)
def delete_ended_reservations(timestamp: int) -> None:
    reservations.delete_ended(conf.keep_ended_for())


def _call_for_each(do: Callable[[int], object], ids: Iterable[int]) -> None:
    """Call ``do`` for each; log those that fail, and go on with the others."""
    for pk in ids:
        logs.unbind()
        try:
            do(pk)
        except ProviderUnavailable as error:  # no fault of ours: it may last for hours
            log.warning("%s(%s) failed; it will be tried again. %s", do.__name__, pk, error)
        except Exception:
            log.exception("%s(%s) failed; it will be tried again.", do.__name__, pk)


# The queue itself


@app.task(queueing_lock="start_stalled_jobs_again", pass_context=True)
async def start_stalled_jobs_again(context: JobContext, timestamp: int) -> None:
    """Do what each worker does all the time. Workers of an earlier release queue this."""
    await retries.restart_stalled_jobs(context.app)


@app.periodic(cron=EVERY_NIGHT)
@app.task(queueing_lock="delete_old_refusals", aliases=["shop.tasks.forget_old_refusals"])
def delete_old_refusals(timestamp: int) -> None:
    refusals.delete_old_refusals()


@app.periodic(cron=EVERY_NIGHT)
@app.task(queueing_lock="delete_old_outbox_mails", aliases=["shop.tasks.forget_old_outbox_mails"])
def delete_old_outbox_mails(timestamp: int) -> None:
    outbox.delete_old_mails()


@app.periodic(cron=EVERY_NIGHT)
@app.task(queueing_lock="delete_old_import_files", aliases=["shop.tasks.forget_old_import_files"])
def delete_old_import_files(timestamp: int) -> None:
    import_files.delete_old()


@app.periodic(cron=EVERY_NIGHT)
@app.task(
    queueing_lock="delete_old_jobs", pass_context=True, aliases=["shop.tasks.forget_old_jobs"]
)
async def delete_old_jobs(context: JobContext, timestamp: int) -> None:
    await remove_old_jobs(context, max_hours=KEEP_JOBS)
