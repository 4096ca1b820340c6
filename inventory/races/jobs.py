"""Tasks of queues as sessions: ``task(ship, order_id)`` runs as a worker would run it.

None of these packages is needed here, and none is imported before a task of it is given: each is
known by the attributes of its tasks.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib
import inspect
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from .errors import Misuse

Runner = Callable[..., object]

_numbers = itertools.count(1)


def task(task: Any, /, *args: Any, **kwargs: Any) -> Job:
    """Return a session that runs a task of a queue once, with these arguments.

    ``task``: a task of procrastinate, Celery (a signature, too), Django, Huey or Dramatiq; for
    other queues, the function itself, as for RQ. It gets a copy of the arguments each time, and
    the context that it asks for. An exception is the session's result. Celery's ``retry()`` is
    performed at once, without its pause. Raises Misuse if it isn't a task.
    """
    return Job(task, args, kwargs)


class Job:
    """A session that runs a task."""

    def __init__(self, task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.task = task
        self.lock: str | None = None
        """Jobs with the same lock are never run at once by their workers."""
        self._run = self._runner()
        self._arguments = args, kwargs
        self._number = next(_numbers)

    def __repr__(self) -> str:
        return f"<job of {getattr(self.task, 'name', self.task)}>"

    def __call__(self) -> object:
        args, kwargs = copy.deepcopy(self._arguments)
        return self._run(*args, **kwargs)

    def _runner(self) -> Runner:
        """Return the function that does with the arguments what the queue's worker does."""
        task = self.task
        if has(task, "apply", "apply_async"):
            return partial(run_celery, task)
        if has(task, "call_local", "s"):
            return lambda *args, **kwargs: task.s(*args, **kwargs).execute()  # Huey
        if has(task, "defer", "func"):
            self.lock = task.lock
            return self._run_procrastinate
        if has(task, "enqueue", "func"):
            return partial(run_django, task)
        if has(task, "send", "fn"):
            return coroutine_or_function(task.fn)  # Dramatiq
        if callable(task):
            function: Runner = task
            return function
        raise Misuse(
            f"{task!r} is no task that can be run here. Give the function that its worker calls."
        )

    def _run_procrastinate(self, *args: Any, **kwargs: Any) -> object:
        middlewares = list(middlewares_of(self.task))
        if not (middlewares or self.task.pass_context):
            return self.task.func(*args, **kwargs)
        context = self._context_of_procrastinate(kwargs)
        first = [context] if self.task.pass_context else []
        compose = importlib.import_module("procrastinate.middleware").compose
        run: Runner = compose(
            middlewares, partial(self.task.func, *first, *args, **kwargs), context, None
        )
        return run()

    def _context_of_procrastinate(self, kwargs: dict[str, Any]) -> object:
        job = importlib.import_module("procrastinate.jobs").Job(
            id=self._number,
            queue=self.task.queue,
            lock=self.task.lock,
            queueing_lock=self.task.queueing_lock,
            task_name=self.task.name,
            task_kwargs=kwargs,
        )
        return importlib.import_module("procrastinate.job_context").JobContext(
            app=self.task.blueprint,
            job=job,
            start_timestamp=time.time(),
            abort_reason=lambda: None,
        )


def run_celery(task: Any, *args: Any, **kwargs: Any) -> object:
    # With throw=True, retry() would raise its own exception instead of trying again.
    result = task.apply(args, kwargs, throw=False)
    return result.get(disable_sync_subtasks=False)  # raises the task's exception


def run_django(task: Any, *args: Any, **kwargs: Any) -> object:
    if not task.takes_context:
        return task.func(*args, **kwargs)
    base = next(
        module
        for module in (importlib.import_module(cls.__module__) for cls in type(task).__mro__)
        if hasattr(module, "TaskContext")
    )
    known = {
        "task": task,
        "id": "race",
        "status": base.TaskResultStatus.RUNNING,
        "args": list(args),
        "kwargs": kwargs,
        "backend": task.backend,
        "errors": [],
        "worker_ids": ["race"],
    }
    fields = [each.name for each in dataclasses.fields(base.TaskResult) if each.init]
    result = base.TaskResult(**{name: known.get(name) for name in fields})
    return task.func(base.TaskContext(task_result=result), *args, **kwargs)


def middlewares_of(task: Any) -> Iterator[Any]:
    """The middlewares that procrastinate's worker puts round a task, the outermost first."""
    of_workers = getattr(task.blueprint, "worker_defaults", None) or {}
    for each in of_workers.get("task_middleware") or []:
        is_async = importlib.import_module("procrastinate.middleware").is_async_middleware(each)
        if is_async == inspect.iscoroutinefunction(task.func):
            yield each
    yield from getattr(task, "task_middleware", [])


def coroutine_or_function(function: Runner) -> Runner:
    """The coroutine function inside, if there is one, else the function."""
    inside = inspect.unwrap(function)
    return inside if inspect.iscoroutinefunction(inside) else function


def has(task: object, *names: str) -> bool:
    return all(callable(getattr(task, name, None)) for name in names)


def check_locks(sessions: Mapping[str, object]) -> None:
    """Raise Misuse if two sessions are jobs that their queue never runs at once."""
    jobs = [(name, call) for name, call in sessions.items() if isinstance(call, Job)]
    for (one, job), (other, another) in itertools.combinations(jobs, 2):
        if job.lock is not None and job.lock == another.lock:
            raise Misuse(
                f"{one} and {other} are jobs with the same lock (“{job.lock}”). Workers never run "
                "them at once, so they can't race."
            )
