"""A job's log lines have the id of the request that queued it. Each failed attempt is logged."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from procrastinate.contrib.django.models import ProcrastinateJob
from procrastinate.jobs import Job

from shop import jobs, logs
from shop.deployment.job_log import log_job
from shop.jobs import request_id_of
from shop.payments import ProviderUnavailable
from tests.shop.logs.conftest import Written

pytestmark = pytest.mark.django_db


def queued() -> list[Job]:
    return [
        Job(
            id=each.pk,
            queue=each.queue_name,
            lock=each.lock,
            queueing_lock=each.queueing_lock,
            task_name=each.task_name,
            task_kwargs=each.args,
        )
        for each in ProcrastinateJob.objects.order_by("pk")
    ]


def test_jobs_of_a_request_have_its_id_and_wait_for_no_other() -> None:
    logs.begin("req-1")
    jobs.queue("send_order_paid", order_id=1)
    jobs.queue_together({"send_order_paid": {"order_id": 1}, "post_alert": {"alert_id": 2}})
    found = queued()
    assert [request_id_of(job) for job in found] == ["req-1"] * 3
    assert [job.lock for job in found] == [None] * 3
    assert len({job.queueing_lock for job in found}) == 3


def test_a_worker_of_an_earlier_release_gets_the_arguments_that_it_knows() -> None:
    logs.begin("req-1")
    jobs.queue("send_order_paid", order_id=1)
    [job] = queued()
    assert job.task_kwargs == {"order_id": 1}


def test_a_job_of_no_request_or_of_an_earlier_release_has_an_id_of_its_own() -> None:
    jobs.queue("send_order_paid", order_id=1)
    [job] = queued()
    assert job.queueing_lock is None
    assert request_id_of(job) == f"job-{job.id}"
    assert request_id_of(job.evolve(queueing_lock="check_law")) == f"job-{job.id}"


def test_jobs_that_a_job_queues_have_the_id_too() -> None:
    logs.begin("req-1")
    jobs.queue("send_order_paid", order_id=1)
    logs.begin("")
    [job] = queued()

    async def queue_another() -> None:
        found.append(logs.request_id())

    found: list[str] = []
    do(job, queue_another)
    assert found == ["req-1"]


@pytest.mark.parametrize(
    ("error", "level"),
    [
        (ValueError("odd: zed@example.org"), "ERROR"),
        (ProviderUnavailable("silent"), "WARNING"),
        (ConnectionRefusedError("mail"), "WARNING"),
    ],
)
def test_each_failed_attempt_is_logged(error: Exception, level: str, written: Written) -> None:
    """procrastinate is silent about those that it will try again."""
    logs.begin("req-1")
    jobs.queue("send_order_paid", order_id=1)
    logs.begin("")
    [job] = queued()

    async def fail() -> None:
        raise error

    with pytest.raises(type(error)):
        do(job.evolve(attempts=2), fail)
    text = written()
    assert f"Attempt 3 of job {job.id}, shop.tasks.send_order_paid, failed: " in text
    assert level in text
    assert "req-1" in text
    assert "zed" not in text


def do(job: Job, work: Callable[[], Awaitable[None]]) -> None:
    context: Any = type("Context", (), {"job": job})()
    asyncio.run(log_job(work, context, None))
