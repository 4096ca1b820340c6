"""The shop's settings of gunicorn, with deadlines from the environment: seconds by their names."""

import os
import time
from pathlib import Path
from typing import Any

from gunicorn.workers.base import Worker

from shop.deployment import asgi_worker, health_checks, web_worker, wsgi_threads
from shop.gunicorn_conf import *  # noqa: F403

for module, name in (
    (asgi_worker, "SECONDS_TO_SEND"),
    (web_worker, "SECONDS_TO_SEND"),
    (asgi_worker, "SECONDS_TO_READ"),
    (health_checks, "SECONDS_TO_ANSWER"),
    (wsgi_threads, "SECONDS_TO_SEND_REST"),
    (web_worker, "SECONDS_TO_SEND_REST"),
):
    if name in os.environ:
        setattr(module, name, float(os.environ[name]))


def post_worker_init(worker: Worker) -> None:
    """Let each answer name its process, and the process wait until the file START_WHEN is there."""
    if hasattr(worker, "asgi"):
        worker.asgi = naming_asgi(worker.asgi)
    else:
        worker.wsgi = naming_wsgi(worker.wsgi)
    while "START_WHEN" in os.environ and not Path(os.environ["START_WHEN"]).exists():
        time.sleep(0.05)


def naming_asgi(application: Any) -> Any:
    async def named(scope: Any, receive: Any, send: Any) -> None:
        async def send_named(message: Any) -> None:
            if message["type"] == "http.response.start":
                process = (b"x-process", str(os.getpid()).encode())
                message = {**message, "headers": [*message["headers"], process]}
            await send(message)

        await application(scope, receive, send_named)

    return named


def naming_wsgi(application: Any) -> Any:
    def named(environ: Any, start_response: Any) -> Any:
        def start_named(status: str, headers: list[Any], *rest: Any) -> Any:
            return start_response(status, [*headers, ("X-Process", str(os.getpid()))], *rest)

        return application(environ, start_named)

    return named
