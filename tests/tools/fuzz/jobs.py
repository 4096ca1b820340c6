"""The e-mails that requests lead to, sent as a worker would: a marker may come out of them, too."""

from __future__ import annotations

from django.db import connection
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob

from shop.retries import RECEIVERS

OF_E_MAILS = RECEIVERS["mail server"]


def do_waiting() -> list[str]:
    """Do the waiting jobs that send e-mails, and drop all others; return the errors in words."""
    errors = []
    waiting = ProcrastinateJob.objects.filter(status="todo", task_name__in=OF_E_MAILS)
    for job in waiting.order_by("id"):
        try:
            app.tasks[job.task_name](**job.args)
        except Exception as error:  # whatever a stored text has led to
            errors.append(f"{job.task_name} {job.args}: {error!r}")
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_jobs WHERE status = 'todo'")
    return errors
