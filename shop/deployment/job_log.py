"""The log of jobs: their lines are about the request that queued them, and no failure is silent."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from procrastinate.job_context import JobContext

from shop import logs
from shop.jobs import request_id_of
from shop.retries import receiver_is_away

log = logging.getLogger(__name__)


async def log_job(
    do_job: Callable[[], Awaitable[object]], context: JobContext, worker: object
) -> object:
    """Do a job, and log each failed attempt. procrastinate itself logs only the last one.

    It is a middleware of procrastinate's worker.
    """
    job = context.job
    logs.begin(request_id_of(job))
    try:
        return await do_job()
    except Exception as error:
        is_away = receiver_is_away(error)
        log.log(
            logging.WARNING if is_away else logging.ERROR,
            "Attempt %d of job %d, %s, failed: %s",
            job.attempts + 1,
            job.id,
            job.task_name,
            error,
            exc_info=not is_away,
        )
        raise
