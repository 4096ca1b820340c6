"""The e-mails that requests lead to, sent as a worker would: a marker may come out of them, too."""

from __future__ import annotations

from django.db import connection
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob

TASKS = [
    f"shop.tasks.{name}"
    for name in (
        "send_order_paid",
        "send_order_shipped",
        "send_order_refunded",
        "send_order_cancelled",
        "send_order_to_managers",
        "mail_alerts",
    )
]


def do_waiting() -> list[str]:
    """Do the waiting jobs that send e-mails, and drop all others; return the errors in words."""
    errors = []
    for job in ProcrastinateJob.objects.filter(status="todo", task_name__in=TASKS).order_by("id"):
        try:
            app.tasks[job.task_name](**job.args)
        except Exception as error:  # whatever a stored text has led to
            errors.append(f"{job.task_name} {job.args}: {error!r}")
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_jobs WHERE status = 'todo'")
    return errors
