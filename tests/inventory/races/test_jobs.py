"""Tasks of queues as sessions.

procrastinate's tasks are real. Of the packages that aren't installed here, small classes stand in
that are called in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.db import ProgrammingError, close_old_connections, connection, transaction
from procrastinate.contrib.django import DjangoApp, app
from procrastinate.contrib.django.models import ProcrastinateJob
from procrastinate.job_context import JobContext

from inventory.races import Misuse, explore, replay, task
from tests.inventory.races.models import Mug, Sale
from tests.inventory.races.test_counts import (
    SoldOut,
    one_mug,
    read_check_save,
    sells_at_most_one,
)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def queue() -> Iterator[DjangoApp]:
    """procrastinate, for tasks that nobody else sees."""
    yield DjangoApp(connector=app.connector)
    no_jobs()


def no_jobs() -> None:
    ProcrastinateJob.objects.all()._raw_delete("default")


def sell(sku: str) -> str:
    read_check_save()
    return f"{sku} sold"


def check_race_of(session: Callable[[], object]) -> None:
    """16 schedules, of which 12 are broken: as in test_counts, by the function itself."""
    result = explore([session, session], setup=one_mug, invariant=sells_at_most_one)
    assert (result.schedules, len(result.broken), result.exhaustive) == (16, 12, True)
    assert {value for run in result.runs for value in run.returned.values()} == {"MUG sold"}
    assert {type(error) for run in result.runs for error in run.raised.values()} == {SoldOut}


# procrastinate


def test_a_task_of_procrastinate(queue: DjangoApp) -> None:
    check_race_of(task(queue.task(sell), sku="MUG"))


def test_a_coroutine_of_procrastinate_with_its_context(queue: DjangoApp) -> None:
    @queue.task(pass_context=True, queue="slow")
    async def count(context: JobContext, sku: str) -> tuple[str, Any, int]:
        return (
            context.job.queue,
            context.job.task_kwargs,
            await Mug.objects.filter(sku=sku).acount(),
        )

    ours = task(count, sku="MUG")
    assert replay("A B", [ours, ours], setup=one_mug).returned["A"] == ("slow", {"sku": "MUG"}, 1)


def test_middlewares_of_procrastinate_are_round_the_task(queue: DjangoApp) -> None:
    """Such as one with a transaction, which makes other races."""

    def in_a_transaction(go_on: Callable[[], object], context: object, worker: object) -> object:
        with transaction.atomic():
            return go_on()

    async def for_coroutines(go_on: Any, context: object, worker: object) -> object:
        raise AssertionError("The task is none.")

    queue.worker_defaults = {"task_middleware": [in_a_transaction, for_coroutines]}
    ours = task(queue.task(sell), "MUG")
    assert kinds_of(ours) == ["read", "write", "write", "commit"]
    queue.worker_defaults = {}
    ours = task(queue.task(name="2", task_middleware=[in_a_transaction])(sell), "MUG")
    assert kinds_of(ours) == ["read", "write", "write", "commit"]


def kinds_of(session: Callable[[], object]) -> list[str]:
    run = replay("A", [session, read_check_save], setup=one_mug, serial=False)
    return [step.kind.value for step in run.steps if step.session == "A"]


def test_jobs_with_the_same_lock_never_run_at_once(queue: DjangoApp) -> None:
    locked = queue.task(lock="mugs")(sell)
    with pytest.raises(Misuse, match="Ann and Bob are jobs with the same lock \\(“mugs”\\)"):
        explore({"Ann": task(locked, "MUG"), "Bob": task(locked, "MUG")}, setup=one_mug)
    replay("A", [task(locked, "MUG"), lambda: sell("MUG")], setup=one_mug)


def test_a_worker_may_look_whether_its_connection_is_usable() -> None:
    """After an error, Django asks the server before the next job, by psycopg's own connection."""

    def fails() -> None:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT nothing")
        except ProgrammingError:
            close_old_connections()
        read_check_save()

    run = replay("A", [fails, read_check_save], setup=one_mug)
    assert [step.sql.split()[0] for step in run.steps if step.session == "A"] == [
        "SELECT", "SELECT", "UPDATE", "INSERT",
    ]  # fmt: skip


def test_a_job_that_is_queued_is_compared(queue: DjangoApp) -> None:
    """procrastinate queues jobs by a function of the database: a SELECT that writes."""
    ship = queue.task(sell)

    def sell_and_queue() -> None:
        if not ProcrastinateJob.objects.exists():
            ship.defer(sku="MUG")

    result = explore([sell_and_queue] * 2, setup=no_jobs, first=True)
    [defer] = {s.kind.value for s in result.runs[0].steps if "defer_jobs" in s.sql}
    assert defer == "other"
    assert result.shortest is not None
    assert result.shortest.schedule == "A B*2 A"


# Celery


class Retry(Exception):
    pass


class EagerResult:
    def __init__(self, value: object) -> None:
        self.value = value

    def get(self, disable_sync_subtasks: bool = True) -> object:
        assert not disable_sync_subtasks, "Celery refuses to wait inside of a task"
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


class CeleryTask:
    """``apply`` as Celery's: with throw=True, a retry comes out of it as an exception."""

    name = "shop.sell"

    def __init__(self, function: Callable[..., object]) -> None:
        self.run = function

    def apply(self, args: Any, kwargs: Any, throw: bool | None = None) -> EagerResult:
        try:
            return EagerResult(self.run(*args, **kwargs))
        except Retry:
            if throw:
                raise
            return self.apply(args, kwargs)
        except Exception as error:
            if throw:
                raise
            return EagerResult(error)

    def apply_async(self, *args: object) -> None:
        raise AssertionError("The task would be queued.")

    delay = __call__ = apply_async


def test_a_task_of_celery_raises_its_exception() -> None:
    check_race_of(task(CeleryTask(sell), sku="MUG"))


def test_a_task_of_celery_tries_again() -> None:
    tries: list[int] = []

    def sell_in_the_second_try(sku: str) -> str:
        tries.append(1)
        if len(tries) % 2:
            Mug.objects.count()
            raise Retry
        return sell(sku)

    assert kinds_of(task(CeleryTask(sell_in_the_second_try), "MUG")) == ["read"] * 2 + ["write"] * 2


# Django's tasks


@dataclass(frozen=True)
class DjangoTask:
    func: Callable[..., object]
    takes_context: bool = False
    backend: str = "default"

    def enqueue(self, *args: object) -> None:
        raise AssertionError("The task would be queued.")


class TaskResultStatus:
    RUNNING = "RUNNING"


@dataclass(frozen=True)
class TaskResult:
    task: DjangoTask
    id: str
    status: str
    args: list[Any]
    kwargs: dict[str, Any]
    worker_ids: list[str]
    started_at: object
    _return_value: object = field(init=False, default=None)


@dataclass(frozen=True)
class TaskContext:
    task_result: TaskResult


def test_a_task_of_django() -> None:
    check_race_of(task(DjangoTask(sell), "MUG"))


def test_a_task_of_django_that_takes_its_context() -> None:
    def count(context: TaskContext, sku: str) -> object:
        Mug.objects.count()
        return context.task_result.args, context.task_result.kwargs, context.task_result.status

    for session, expected in (
        (task(DjangoTask(count, True), "MUG"), (["MUG"], {}, "RUNNING")),
        (task(DjangoTask(count, True), sku="MUG"), ([], {"sku": "MUG"}, "RUNNING")),
    ):
        assert replay("A B", [session, session], setup=one_mug).returned["A"] == expected


# Huey and Dramatiq


class HueyTask:
    """Is put into the queue by a call."""

    def __init__(self, function: Callable[..., object]) -> None:
        self.call_local = function

    def __call__(self, *args: object) -> None:
        raise AssertionError("The task would be queued.")

    def s(self, *args: Any, **kwargs: Any) -> Any:
        class Instance:
            def execute(instance) -> object:
                return self.call_local(*args, **kwargs)

        return Instance()


class DramatiqActor:
    """Of a coroutine function, ``fn`` waits in a thread of Dramatiq's worker."""

    def __init__(self, function: Callable[..., object]) -> None:
        self.fn = function

    def send(self, *args: object) -> None:
        raise AssertionError("The task would be queued.")


def test_tasks_of_huey_and_dramatiq() -> None:
    check_race_of(task(HueyTask(sell), "MUG"))
    check_race_of(task(DramatiqActor(sell), sku="MUG"))


def test_a_coroutine_of_dramatiq() -> None:
    async def count() -> int:
        return await Mug.objects.acount()

    def in_the_worker() -> int:
        raise RuntimeError("There is no worker here.")

    in_the_worker.__wrapped__ = count  # type: ignore[attr-defined]
    session = task(DramatiqActor(in_the_worker))
    assert replay("A B", [session, session], setup=one_mug).returned == {"A": 1, "B": 1}


# Functions, and their arguments


def test_a_function_gets_its_arguments_anew_each_time() -> None:
    """A worker reads them from the queue."""

    def sell_all(skus: list[str]) -> str:
        sku = skus.pop()
        read_check_save()
        return f"{sku} sold"

    check_race_of(task(sell_all, ["CUP", "MUG"]))


def test_nothing_else_is_a_task() -> None:
    with pytest.raises(Misuse, match=r"'shop\.tasks\.sell' is no task"):
        task("shop.tasks.sell")
    assert not Sale.objects.exists()
