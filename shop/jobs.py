"""Queueing of background work."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
from django.db import connection
from procrastinate.contrib.django import app
from procrastinate.contrib.django.django_connector import DjangoConnector
from procrastinate.contrib.django.models import ProcrastinateJob
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job
from procrastinate.manager import JobManager
from procrastinate.tasks import configure_task

from shop import logs
from shop.clock import read_clock

OF_REQUEST = "request "  # queueing locks begin with it that only carry a request's id
# In SQL, of rows of procrastinate_jobs: it is queued for a reason of its own, not again and again.
IS_QUEUED_ONCE = f"(queueing_lock IS NULL OR starts_with(queueing_lock, '{OF_REQUEST}'))"


def queue(task: str, *, wait: timedelta | None = None, **arguments: Any) -> None:
    """Queue a job of the task of that name, to start after ``wait``.

    ``task`` is the name of a function in ``shop.tasks``, or a dotted path.

    The job is part of the transaction under way: it exists exactly if that commits. Inside a
    worker ``task.defer()`` would use another connection, and so another transaction.

    Raises KeyError if there is no such task, and Django's errors of the database.
    """
    _put_in_queue([_job(task, arguments, wait)])


def queue_together(arguments_of: Mapping[str, dict[str, Any]]) -> None:
    """Queue a job of each of these tasks, with its arguments, in one statement.

    See ``queue``.
    """
    _put_in_queue([_job(task, arguments) for task, arguments in arguments_of.items()])


def _job(task: str, arguments: dict[str, Any], wait: timedelta | None = None) -> Job:
    known = app.tasks[task if "." in task else f"shop.tasks.{task}"]
    return configure_task(
        name=known.name,
        job_manager=JobManager(DjangoConnector()),
        schedule_at=None if wait is None else read_clock() + wait,
        queue=known.queue,
        lock=known.lock,
        queueing_lock=known.queueing_lock or _lock_with_request_id(),
        priority=known.priority,
    ).make_new_job(**arguments)


def _lock_with_request_id() -> str | None:
    """A queueing lock that no other job has, and that tells the worker which request queued it.

    procrastinate keeps no other text with a job that a worker of an earlier release would leave
    alone: it would hand an argument more to the task.
    """
    request_id = logs.request_id()
    return f"{OF_REQUEST}{request_id} {uuid4()}" if request_id else None


def request_id_of(job: Job) -> str:
    """The id of the request that queued the job; else a name for this job."""
    lock = job.queueing_lock or ""
    return lock.split()[1] if lock.startswith(OF_REQUEST) else f"job-{job.id}"


def _put_in_queue(jobs: list[Job]) -> None:
    try:
        JobManager(DjangoConnector()).batch_defer_jobs(jobs)
    except ConnectorException as error:
        if not isinstance(error.__cause__, psycopg.Error):
            raise
        # procrastinate hides that the database is away. All callers know Django's own errors.
        with connection.wrap_database_errors:
            raise error.__cause__ from None


def retry_failed(task_name: str) -> int:
    """Queue all failed jobs of a task once more, and return how many.

    ``task_name`` is the full name, such as ``shop.tasks.send_order_paid``.
    """
    manager = JobManager(DjangoConnector())
    failed = ProcrastinateJob.objects.filter(task_name=task_name, status="failed")
    ids = list(failed.order_by("id").values_list("id", flat=True))
    tried = 0
    for job_id in ids:
        with suppress(ConnectorException):  # somebody else was first
            manager.retry_job_by_id(job_id, retry_at=read_clock())
            tried += 1
    return tried


def queue_flash_sale(flash_sale_id: int) -> None:
    """Have a worker hold that sale (setting INVENTORY_QUEUE_FLASH_SALE)."""
    queue("inventory.experiments.tasks.run_flash_sale", flash_sale_id=flash_sale_id)
