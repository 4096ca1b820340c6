"""When a job that failed is tried again.

If its receiver is away (the mail server, an alert's webhook, the bank, the database), one of the
jobs that wait for it is tried every few seconds. When none fails any more, all are. So nothing
waits for long once the receiver is back, and nobody hammers at its door for a day. Such attempts
don't count, and there is no last one.

A job that failed for another reason is tried after 4, 16, 64, 256 … seconds, for about a day in
all.

The database's clock decides: that of a worker's machine may be wrong. So a job that failed is put
off for a day, and a worker brings it back (``retry_due_jobs``).
"""

from __future__ import annotations

import asyncio
import logging
import smtplib
import urllib.error
from contextlib import suppress
from typing import Any

from procrastinate import App, BaseRetryStrategy, RetryDecision
from procrastinate.exceptions import ConnectorException, UniqueViolation
from procrastinate.jobs import Job, Status

from shop.database_errors import causes, is_outage
from shop.notifications.sending import AnswerLost
from shop.payments.base import ProviderMisconfigured, ProviderUnavailable

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LOOKS = 10.0
SECONDS_WITHOUT_FAILURE = 20  # after which a receiver is taken to be back
MOST_ATTEMPTS = 8

ORDINARY = 0  # priority
WAITS_FOR_RECEIVER = -1  # priority: all other jobs go first

# Tasks by receiver. All others have one of their own.
RECEIVERS = {
    "mail server": [
        "shop.tasks.send_order_paid",
        "shop.tasks.send_order_shipped",
        "shop.tasks.send_order_refunded",
        "shop.tasks.send_order_cancelled",
        "shop.tasks.send_order_to_managers",
        "shop.tasks.mail_alerts",
    ],
    "webhook": ["shop.tasks.post_alert", "shop.tasks.post_shop_alert"],
}
# Only this job fails, and may have done its work: trying it every few seconds would make copies.
ONLY_THIS_JOB = smtplib.SMTPRecipientsRefused | AnswerLost | ProviderMisconfigured

# Another worker may do the same at this moment: it finds the rows changed, and leaves them.
RETRY_DUE = """
    WITH waiting AS MATERIALIZED (
        SELECT job.id, job.attempts, job.priority, failed.at,
            coalesce(%(receivers)s::jsonb ->> job.task_name, job.task_name) AS receiver
        FROM procrastinate_jobs AS job
        CROSS JOIN LATERAL (
            SELECT max(event.at) AS at FROM procrastinate_events AS event
            WHERE event.job_id = job.id AND event.type = 'deferred_for_retry'
        ) AS failed
        WHERE job.status = 'todo' AND job.attempts > 0 AND job.scheduled_at > now()
    ), away AS (
        SELECT id, row_number() OVER (PARTITION BY receiver ORDER BY at, id) AS place,
            max(at) OVER (PARTITION BY receiver) AS failed_last
        FROM waiting WHERE priority = %(away)s
    ), due AS (
        SELECT id FROM away
        WHERE place = 1 OR failed_last < now() - make_interval(secs => %(quiet)s)
        UNION ALL
        SELECT id FROM waiting
        WHERE priority <> %(away)s AND at + make_interval(secs => 4 ^ least(attempts, 10)) <= now()
    )
    UPDATE procrastinate_jobs AS job
    SET scheduled_at = NULL, attempts = job.attempts - (job.priority = %(away)s)::int
    WHERE job.id = ANY (SELECT id FROM due) AND job.status = 'todo' AND job.scheduled_at > now()
"""


class PatientRetryStrategy(BaseRetryStrategy):
    """Puts a job that failed off, until a worker brings it back."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        if receiver_is_away(exception):
            priority = WAITS_FOR_RECEIVER
        elif job.attempts < MOST_ATTEMPTS:
            priority = ORDINARY
        else:
            return None
        return RetryDecision(retry_in={"days": 1}, priority=priority)


def receiver_is_away(error: BaseException) -> bool:
    """Whether the error says that nothing is wrong with the job: its receiver can't be reached."""
    chain = causes(error)
    for cause in chain:
        if isinstance(cause, ONLY_THIS_JOB):
            return False
        if isinstance(cause, smtplib.SMTPSenderRefused | smtplib.SMTPDataError):
            return cause.smtp_code < 500  # else the mail server doesn't want this e-mail
        if isinstance(cause, urllib.error.HTTPError):
            return cause.code >= 500 or cause.code == 429
    return any(
        is_outage(cause) or isinstance(cause, OSError | ProviderUnavailable) for cause in chain
    )


async def look_after_queue(app: App) -> None:
    """Look every few seconds for jobs that wait too long, until cancelled.

    It is no job itself: it must not wait for a job that takes long.
    """
    while True:
        await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
        for look in (restart_stalled_jobs, retry_due_jobs):
            try:
                await look(app)
            except Exception as error:  # the worker itself notices that the database is away
                log.warning("The queue could not be looked after: %s", error)


async def restart_stalled_jobs(app: App) -> None:
    """Start jobs again whose worker was killed: one that gave no sign of life for a while."""
    manager = app.job_manager
    for job in await manager.get_stalled_jobs():
        now = (await app.connector.execute_query_one_async("SELECT clock_timestamp()")).popitem()[1]
        with suppress(ConnectorException):  # its worker lives after all, and has finished it
            try:
                await manager.retry_job(job, retry_at=now)
            except UniqueViolation:  # the next one of this periodic job is waiting already
                await manager.finish_job(job, status=Status.FAILED, delete_job=False)


async def retry_due_jobs(app: App) -> None:
    """Bring back the jobs that have waited long enough."""
    receivers: dict[str, Any] = {
        task: receiver for receiver, tasks in RECEIVERS.items() for task in tasks
    }
    await app.connector.execute_query_async(
        RETRY_DUE, receivers=receivers, away=WAITS_FOR_RECEIVER, quiet=SECONDS_WITHOUT_FAILURE
    )
