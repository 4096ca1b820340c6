"""A process of the web server that isn't a copy of gunicorn's master, but a Python of its own.

A copy would have the settings and the modules that the master has read when it was started. This
one reads what is there now: after a release the new code, and also a new Python environment, where
the shop's directory is a link that leads to another release now.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any, NoReturn

from django.db import connection
from gunicorn.app.wsgiapp import WSGIApplication
from gunicorn.arbiter import Arbiter
from gunicorn.sock import create_sockets
from gunicorn.workers.base import Worker
from gunicorn.workers.workertmp import WorkerTmp

from shop.deployment import secret_key
from shop.logs.failures import log_uncaught

VARIABLE = "SHOP_FRESH_WORKER"  # for the process alone: its place at the master's side
SECONDS_BETWEEN_TRIES = 5.0
CANNOT_START = 1  # gunicorn would end the shop for other codes, though old processes serve

PROGRAM = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from shop.deployment.fresh_worker import main
main()
"""


# In the master's copy


def post_fork(server: Arbiter, worker: Worker) -> None:
    """Go on as a fresh Python. The first processes need not: the master has read just their code.

    gunicorn calls this in the new process.
    """
    if worker.age <= server.cfg.workers:
        return
    place = {
        "age": worker.age,
        "ppid": worker.ppid,
        "heartbeat": worker.tmp.fileno(),
        "sockets": [each.fileno() for each in worker.sockets],
        "must_be_ready": server.is_reloading,
    }
    for file in (place["heartbeat"], *place["sockets"]):
        os.set_inheritable(file, True)
    python, *arguments = server.START_CTX["args"]
    try:
        os.chdir(server.cfg.chdir)  # by its name: a link may lead to another release now
        os.execve(
            python,
            [python, "-c", PROGRAM, server.cfg.chdir, *arguments[1:]],
            {**os.environ, VARIABLE: json.dumps(place)},
        )
    except OSError as error:
        worker.log.error("%s can't be started: %s", python, error)
        end(CANNOT_START, server.is_reloading)


# In the fresh Python


def main() -> NoReturn:
    """Serve as gunicorn's worker."""
    place = json.loads(os.environ.pop(VARIABLE))
    try:
        serve(place)
    except SystemExit as exit:
        if isinstance(exit.code, str):  # the words of gunicorn_conf.py about a wrong setting
            print(exit.code, file=sys.stderr, flush=True)
        end(CANNOT_START if exit.code else 0, place["must_be_ready"])
    end(0, place["must_be_ready"])


def serve(place: dict[str, Any]) -> None:
    """Do what gunicorn's master does in a copy of itself. Raises SystemExit if it can't."""
    app = WSGIApplication("%(prog)s [OPTIONS] [APP_MODULE]")
    cfg = app.cfg
    log = cfg.logger_class(cfg)
    log_uncaught()
    try:
        secret_key.read()
        sockets = create_sockets(cfg, log, place["sockets"])
        worker = cfg.worker_class(
            place["age"], place["ppid"], sockets, app, cfg.timeout / 2.0, cfg, log
        )
        worker.tmp.close()
        worker.tmp = Heartbeat(place["heartbeat"])
        worker.pid = os.getpid()
        if place["must_be_ready"]:
            cfg.set("post_worker_init", checked_before(cfg.post_worker_init))
        log.info("Booting worker with pid: %s", worker.pid)
        worker.init_process()
    except Exception:
        log.exception("Exception in worker process")
        sys.exit(CANNOT_START)


class Heartbeat(WorkerTmp):  # type: ignore[misc]  # it has no types
    """The file by which the master sees that we live. It has made it."""

    def __init__(self, file: int) -> None:
        self._tmp = os.fdopen(file, "w+b", 0)


def checked_before(hook: Callable[[Worker], object]) -> Callable[[Worker], None]:
    """A hook that lets the process serve only if the shop is ready; else it ends the process."""

    def check(worker: Worker) -> None:
        from shop.health import find_problem  # Django must have been set up

        if problem := find_problem():
            worker.log.error("The new process can't serve. %s", problem)
            sys.exit(CANNOT_START)
        connection.close()
        hook(worker)

    return check


def end(code: int, at_once: bool) -> NoReturn:
    """End the process. If it can't start, and nobody waits for that, let the next one wait."""
    if code and not at_once:
        time.sleep(SECONDS_BETWEEN_TRIES)
    sys.exit(code)
