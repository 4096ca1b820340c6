"""A real worker whose database goes away: it waits, and does the jobs that are queued later."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg
import pytest
from django.db import connection
from procrastinate.contrib.django.models import ProcrastinateJob

from shop import jobs
from shop.deployment.embedded_postgres import DATABASE, USER, EmbeddedPostgres
from tests.command_line import ROOT, database_url, environment, psql, start
from tests.concurrency import wait_until_somebody_waits_for_a_lock
from tests.shop.programs import ServerUser, clean_up, wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

SECONDS_TO_A_HEARTBEAT = 11.0  # which notices the loss if nothing else did
PROCESSES = "SELECT max(pid) FROM pg_stat_activity"
LISTENS = f"{PROCESSES} WHERE query ILIKE 'LISTEN%'"
CHECKPOINTER = f"{PROCESSES} WHERE backend_type = 'checkpointer'"
AT_0 = '{"timestamp": 0}'
JOBS_DONE = f"""
    SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded' AND args @> '{AT_0}'
"""
OURS = "datname = current_database() AND application_name = 'shop-worker'"


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    url = f"{database_url()}&application_name=shop-worker"
    process = start("procrastinate", "worker", database=url)
    try:
        wait_until(listens, "the worker listens")
        yield process
    finally:
        process.kill()
        process.communicate()


def listens() -> bool:
    """Whether the worker is registered and waits for jobs."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT 1 FROM pg_stat_activity WHERE {OURS} AND query ILIKE 'LISTEN%'")
        return bool(cursor.fetchall())


def kill_backends() -> None:
    psql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OURS}")


def cut(query: str) -> bool:
    """Cut the worker's connections whose such query waits for a lock; say whether one did."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            f" WHERE {OURS} AND wait_event_type = 'Lock' AND query LIKE %s",
            [f"%{query}%"],
        )
        return bool(cursor.fetchall())


def queue_job() -> int:
    """Queue a job; return its primary key."""
    jobs.queue("delete_old_refusals", timestamp=0)  # a nightly job: none waits already
    return int(ProcrastinateJob.objects.latest("pk").pk)


def queue_job_that_waits_for(other: psycopg.Connection) -> int:
    """Queue a job that is under way until this transaction ends; return its primary key.

    Jobs that only read the table may come before it, and go on.
    """
    other.execute("LOCK TABLE shop_refusal IN EXCLUSIVE MODE")
    job = queue_job()  # which deletes rows of that table
    under_way = ProcrastinateJob.objects.filter(pk=job, status="doing")
    wait_until(under_way.exists, f"job {job} is under way")
    wait_until_somebody_waits_for_a_lock()
    return job


def wait_until_done(job: int) -> None:
    done = ProcrastinateJob.objects.filter(pk=job, status="succeeded")
    wait_until(done.exists, f"job {job} is done")


def test_it_goes_on_after_its_connections_were_killed(worker: subprocess.Popen[str]) -> None:
    for _ in range(2):
        kill_backends()
        wait_until_done(queue_job())
        wait_until(listens, "the worker listens again")
        assert worker.poll() is None


def test_it_goes_on_after_another_worker_has_taken_it_for_dead(
    worker: subprocess.Popen[str],
) -> None:
    """It was stopped for a minute, and another one has started meanwhile."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_workers")
        assert cursor.rowcount == 1
    wait_until_done(queue_job())
    assert worker.poll() is None


@pytest.mark.parametrize(
    "how", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.thorough)]
)
def test_it_ends_at_a_signal(worker: subprocess.Popen[str], how: int) -> None:
    wait_until_done(
        queue_job()
    )  # the worker connects before it works, and handles signals from then on
    worker.send_signal(how)
    _, errors = worker.communicate(timeout=60)
    assert worker.returncode == 0, errors
    assert "Traceback" not in errors


def test_it_finishes_the_job_under_way(worker: subprocess.Popen[str]) -> None:
    with psycopg.connect(database_url()) as other:
        job = queue_job_that_waits_for(other)
        worker.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            worker.wait(timeout=1)
    _, errors = worker.communicate(timeout=60)
    assert worker.returncode == 0, errors
    done = ProcrastinateJob.objects.get(pk=job)
    assert (done.status, done.attempts) == ("succeeded", 1)


def test_a_job_whose_end_it_could_not_record_is_done_again(
    worker: subprocess.Popen[str],
) -> None:
    """The connection is cut at that moment. All others live, so that the worker lives, too."""
    with psycopg.connect(database_url()) as other, psycopg.connect(database_url()) as third:
        job = queue_job_that_waits_for(other)
        third.execute("SELECT 1 FROM procrastinate_jobs WHERE id = %s FOR UPDATE", [job])
        other.commit()
        for _ in range(2):
            wait_until(lambda: cut("finish_job"), "it records the end")
    wait_until_done(job)
    assert ProcrastinateJob.objects.get(pk=job).attempts == 2
    assert worker.poll() is None


@pytest.mark.parametrize(
    "how", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.thorough)]
)
def test_it_ends_at_once_while_it_connects(how: int) -> None:
    """The server lets each connection wait; the worker opens several at a time."""
    slow = f"{database_url()}&options={quote('-c post_auth_delay=5')}"
    process = start("procrastinate", "worker", database=slow)
    try:
        connections = psutil.Process(process.pid).net_connections
        wait_until(lambda: len(connections("all")) > 3, "the worker opens its connections")
        process.send_signal(how)
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.communicate()


def test_it_ends_at_a_signal_after_a_loss(worker: subprocess.Popen[str]) -> None:
    kill_backends()
    wait_until_done(queue_job())
    worker.terminate()
    _, errors = worker.communicate(timeout=60)
    assert worker.returncode == 0, errors


@pytest.mark.longest
@pytest.mark.parametrize("crashes", [1, pytest.param(2, marks=pytest.mark.thorough)])
def test_it_goes_on_after_the_server_has_crashed(crashes: int) -> None:
    """On a server of the test's own: a backend that is killed takes all others with it."""
    with tempfile.TemporaryDirectory(prefix="shop-test-") as directory:
        Path(directory).chmod(0o755)
        home = Path(directory).resolve() / ".postgres"
        user = ServerUser(home).ready()
        url = f"postgres:///{DATABASE}?host={quote(str(EmbeddedPostgres(home).socket_dir))}&user={USER}"
        try:
            outlives_crashes(url, crashes)
        finally:
            user.kill()
            clean_up(home)


def outlives_crashes(url: str, crashes: int) -> None:
    run(url, "migrate", "--verbosity=0")
    with subprocess.Popen(
        [sys.executable, "manage.py", "procrastinate", "worker"],
        cwd=ROOT,
        env=environment(url),
        stderr=subprocess.DEVNULL,
    ) as worker:
        try:
            for number in range(1, crashes + 1):
                wait_until(lambda: number_in(url, LISTENS), "the worker listens")
                before = number_in(url, CHECKPOINTER)
                wait_until(lambda: kill_listener(url), "a backend was killed")
                wait_until(lambda: number_in(url, CHECKPOINTER) not in (0, before), "it is back")
                run(url, "procrastinate", "defer", "shop.tasks.delete_old_refusals", AT_0)
                wait_until(lambda: number_in(url, JOBS_DONE) == number, "the job is done")
                time.sleep(SECONDS_TO_A_HEARTBEAT)
                assert worker.poll() is None
        finally:
            worker.kill()


def kill_listener(url: str) -> bool:
    """Kill the worker's listening backend, unless it has ended meanwhile."""
    with suppress(psutil.NoSuchProcess):
        if pid := number_in(url, LISTENS):
            psutil.Process(pid).kill()
            return True
    return False


def number_in(url: str, sql: str) -> int:
    """The single value of the result; 0 while the server can't be reached."""
    try:
        with psycopg.connect(url.replace("postgres:", "postgresql:")) as other:
            row = other.execute(sql).fetchone()
    except psycopg.OperationalError:
        return 0
    return int(row[0] or 0) if row else 0


def run(url: str, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=environment(url),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
