"""The shop's settings of gunicorn, with deadlines from the environment: seconds by their names."""

import os

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
