"""Settings of gunicorn: ``gunicorn -c python:shop.gunicorn_conf shop.asgi``.

``shop.wsgi`` in its place starts the same shop without the fast lane.

Each thread keeps a connection to the database, and the fast lane of a worker up to seven: workers ×
(threads + 7) of them, per machine.
"""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from gunicorn.app import base
from gunicorn.arbiter import Arbiter
from gunicorn.sock import create_sockets

from shop import metrics
from shop.deployment import fresh_worker, secret_key
from shop.deployment.access_log import FORMAT
from shop.deployment.arbiter import ServiceArbiter
from shop.deployment.environment import Environment, listening_addresses, whole_number
from shop.logs.failures import log_uncaught
from shop.logs.formats import gunicorn_level

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
try:
    loglevel = gunicorn_level(settings.LOG_LEVEL)
    env = Environment(Path(__file__).resolve().parent.parent / ".env")
    bind = env("BIND", cast=listening_addresses, default="127.0.0.1:8000")
    workers = env("WEB_CONCURRENCY", cast=whole_number(1, 1000), default=2)
except ImproperlyConfigured as error:
    sys.exit(str(error))

base.Arbiter = ServiceArbiter  # there is no other way to hand it to gunicorn

worker_connections = 10_000  # of a worker, if its limit on open files allows so many
if any(argument.split(":")[0] == "shop.wsgi" for argument in sys.argv):
    worker_class = "shop.deployment.web_worker.PatientWorker"
    threads = settings.WEB_THREADS
else:
    worker_class = "shop.deployment.asgi_worker.PatientAsgiWorker"  # shop.asgi has the threads

timeout = 30  # seconds without a sign of life; after them a worker is replaced
graceful_timeout = 20  # seconds for the requests under way when the shop is stopped
keepalive = 5  # seconds; a proxy in front can keep connections for longer
control_socket_disable = True  # it is one per user: two shops on a machine would share it

forwarder_headers = ""  # no header of a request changes its path

# Django alone decides whether a header says that a request came by HTTPS (BEHIND_PROXY).
secure_scheme_headers: dict[str, str] = {}

accesslog = "-"
access_log_format = FORMAT
logger_class = "shop.deployment.access_log.AccessLog"


post_fork = fresh_worker.post_fork


def on_starting(server: Arbiter) -> None:
    """Prepare what all workers use.

    Read the key, or make it: without a key gunicorn ends here, before the first request. The
    first workers, our forks, have it from us.
    """
    log_uncaught()
    try:
        secret_key.read()
    except ImproperlyConfigured as error:
        sys.exit(str(error))
    if metrics.are_on():
        from shop.metrics import multiprocess

        multiprocess.make_directory()
        # gunicorn hands these on to the new master of an upgrade.
        server.cfg.env_orig[multiprocess.VARIABLE] = os.environ[multiprocess.VARIABLE]


def when_ready(server: Arbiter) -> None:
    """Listen at METRICS_ADDRESS, too, whatever ``--bind`` says.

    The new master of an upgrade has the old one's socket already.
    """
    names = [listener.getsockname() for listener in server.LISTENERS]
    if settings.METRICS_ADDRESS and settings.METRICS_ADDRESS not in [name[:2] for name in names]:
        plain = {"certfile": None, "keyfile": None, "is_ssl": False, "reuse_port": False}
        only = SimpleNamespace(
            address=[settings.METRICS_ADDRESS], backlog=server.cfg.backlog, **plain
        )
        server.LISTENERS += create_sockets(only, server.log)
        server.log.info("Listening at: %s (only %s)", server.LISTENERS[-1], metrics.PATH)


def on_exit(server: Arbiter) -> None:
    """Remove the counts of the workers, which have ended."""
    if metrics.are_on():
        from shop.metrics import multiprocess

        multiprocess.remove_directory()
