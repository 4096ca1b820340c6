"""Jobs that failed: when each is tried again, by the database's clock alone."""

from __future__ import annotations

import asyncio
import smtplib
import urllib.error
from datetime import UTC, datetime, timedelta
from email.message import Message

import psycopg.errors
import pytest
from asgiref.sync import async_to_sync
from django.db import connection, transaction
from django.utils import timezone
from procrastinate import App, utils
from procrastinate.contrib.django import app
from procrastinate.contrib.django.django_connector import DjangoConnector
from procrastinate.contrib.django.models import ProcrastinateJob
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job

from shop import jobs, retries
from shop.clock import read_clock
from shop.notifications.sending import AnswerLost
from shop.payments.base import ProviderMisconfigured, ProviderUnavailable
from shop.tasks import patiently

pytestmark = pytest.mark.django_db

AWAY, OTHER = retries.WAITS_FOR_RECEIVER, retries.ORDINARY


def http_error(code: int) -> urllib.error.HTTPError:
    return urllib.error.HTTPError("http://localhost/", code, "", Message(), None)


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


AWAY_ERRORS = [
    ConnectionRefusedError(),
    TimeoutError(),
    urllib.error.URLError("no route"),
    http_error(503),
    http_error(429),
    smtplib.SMTPServerDisconnected(),
    smtplib.SMTPConnectError(421, "busy"),
    smtplib.SMTPAuthenticationError(535, "who are you?"),
    smtplib.SMTPSenderRefused(451, b"too many", "a@b"),
    smtplib.SMTPDataError(452, "no room"),
    ProviderUnavailable(),
    caused(ProviderUnavailable(), ConnectionResetError()),
    psycopg.errors.DiskFull(),
]
OTHER_ERRORS = [
    ZeroDivisionError(),
    http_error(404),
    caused(ProviderUnavailable(), http_error(400)),
    ProviderMisconfigured(),
    smtplib.SMTPRecipientsRefused({}),
    smtplib.SMTPSenderRefused(501, b"no", "a@b"),
    smtplib.SMTPDataError(554, "spam"),
    caused(AnswerLost(), smtplib.SMTPServerDisconnected()),
]


def job_after(attempts: int) -> Job:
    return Job(
        id=1,
        queue="default",
        priority=0,
        lock=None,
        queueing_lock=None,
        task_name="send_order_paid",
        attempts=attempts,
    )


@pytest.mark.parametrize("error", AWAY_ERRORS, ids=repr)
def test_a_job_whose_receiver_is_away_is_never_given_up(error: Exception) -> None:
    decision = patiently.get_retry_decision(exception=error, job=job_after(1000))
    assert decision is not None
    assert decision.priority == AWAY


@pytest.mark.parametrize("error", OTHER_ERRORS, ids=repr)
def test_a_job_that_fails_for_another_reason_is_given_up_in_the_end(error: Exception) -> None:
    decision = patiently.get_retry_decision(exception=error, job=job_after(7))
    assert decision is not None
    assert decision.priority == OTHER
    assert patiently.get_retry_decision(exception=error, job=job_after(8)) is None


def test_errors_that_are_each_behind_the_other_are_told_apart_too() -> None:
    """procrastinate makes such from each error of the database while a job queues another one."""
    with connection.cursor() as cursor:  # any error of a job's statement
        cursor.execute("CREATE TEMPORARY TABLE closed (CHECK (false))")
    with pytest.raises(ConnectorException) as caught, transaction.atomic():
        DjangoConnector().execute_query("INSERT INTO closed DEFAULT VALUES")
    behind = caught.value.__cause__
    assert behind is not None
    assert behind.__context__ is not None
    assert behind.__context__.__cause__ is behind
    decision = patiently.get_retry_decision(exception=caught.value, job=job_after(1))
    assert decision is not None
    assert decision.priority == OTHER


def failed(
    seconds_ago: float, *, priority: int, task: str = "send_order_paid", attempts: int = 1
) -> int:
    """A job that failed so long ago, as the worker leaves it; return its primary key."""
    jobs.queue(task, order_id=1)
    job = ProcrastinateJob.objects.latest("pk")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET status = 'doing' WHERE id = %s", [job.pk])
        cursor.execute(
            "SELECT procrastinate_retry_job_v2(%s, now() + interval '1 day', %s, NULL, NULL)",
            [job.pk, priority],
        )
        cursor.execute(
            "UPDATE procrastinate_jobs SET attempts = %s WHERE id = %s", [attempts, job.pk]
        )
        cursor.execute(
            "UPDATE procrastinate_events SET at = now() - make_interval(secs => %s)"
            " WHERE job_id = %s",
            [seconds_ago, job.pk],
        )
    return int(job.pk)


def brought_back() -> list[int]:
    """Bring back the jobs that have waited long enough, and return which."""
    async_to_sync(retries.retry_due_jobs)(app)
    ready = ProcrastinateJob.objects.filter(status="todo", scheduled_at=None)
    return list(ready.order_by("pk").values_list("pk", flat=True))


def test_one_of_those_that_wait_for_the_same_receiver_is_tried_the_longest_waiting_one() -> None:
    failed(5, priority=AWAY)
    longest = failed(15, priority=AWAY, task="send_order_shipped")
    failed(10, priority=AWAY, task="mail_alerts")
    assert brought_back() == [longest]


def test_all_of_them_are_when_none_has_failed_for_a_while() -> None:
    expected = [failed(seconds, priority=AWAY) for seconds in (21, 60, 3600)]
    failed(1, priority=AWAY, task="post_alert")  # another receiver, which is away still
    other = ProcrastinateJob.objects.latest("pk").pk
    assert brought_back() == [*expected, other]
    failed(19, priority=AWAY)
    failed(18, priority=AWAY)
    assert len(brought_back()) == len(expected) + 2  # one of these two


def test_attempts_that_met_nobody_do_not_count() -> None:
    failed(30, priority=AWAY, attempts=3)
    brought_back()
    assert ProcrastinateJob.objects.get().attempts == 2
    brought_back()  # another worker, at the same moment
    assert ProcrastinateJob.objects.get().attempts == 2


@pytest.mark.parametrize(("attempts", "seconds"), [(1, 4), (2, 16), (3, 64), (4, 256), (8, 65536)])
def test_a_job_that_failed_for_another_reason_waits_longer_each_time(
    attempts: int, seconds: int
) -> None:
    failed(seconds - 2, priority=OTHER, attempts=attempts)
    due = failed(seconds + 2, priority=OTHER, attempts=attempts)
    assert brought_back() == [due]
    assert ProcrastinateJob.objects.get(pk=due).attempts == attempts


def test_jobs_that_are_to_start_later_are_left_alone() -> None:
    jobs.queue("send_order_refunded", wait=timedelta(minutes=1), refund_id=1)
    assert brought_back() == []


@pytest.mark.parametrize("hours", [-1, 1])
def test_this_machines_clock_does_not_decide_when_a_job_starts(
    hours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = datetime.now(UTC) + timedelta(hours=hours)
    monkeypatch.setattr(utils, "utcnow", lambda: wrong)
    monkeypatch.setattr(timezone, "now", lambda: wrong)
    jobs.queue("send_order_refunded", wait=timedelta(minutes=1), refund_id=1)
    in_a_minute = ProcrastinateJob.objects.get()
    assert abs(in_a_minute.scheduled_at - read_clock() - timedelta(minutes=1)) < timedelta(
        seconds=30
    )
    with connection.cursor() as cursor:
        cursor.execute("UPDATE procrastinate_jobs SET status = 'failed', scheduled_at = NULL")
    jobs.retry_failed("shop.tasks.send_order_refunded")
    again = ProcrastinateJob.objects.get(status="todo")
    assert abs(again.scheduled_at - read_clock()) < timedelta(seconds=30)


def test_an_error_does_not_end_the_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []

    async def fail(app: App) -> None:
        looks.append("failed")
        raise ZeroDivisionError

    async def look(app: App) -> None:
        looks.append("looked")

    monkeypatch.setattr(retries, "SECONDS_BETWEEN_LOOKS", 0)
    monkeypatch.setattr(retries, "restart_stalled_jobs", fail)
    monkeypatch.setattr(retries, "retry_due_jobs", look)

    async def look_for_a_while() -> None:
        looking = asyncio.ensure_future(retries.look_after_queue(app))
        while len(looks) < 4 and not looking.done():
            await asyncio.sleep(0)
        looking.cancel()

    asyncio.run(look_for_a_while())
    assert looks[:4] == ["failed", "looked"] * 2
