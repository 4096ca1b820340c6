"""gunicorn's master process, which tells systemd how far it is.

By itself gunicorn says that it is ready before a process of its has loaded the shop. And nothing
watches the master, which watches the others.
"""

from __future__ import annotations

import sys
from typing import Any

from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer

from shop.deployment.reload import replace_processes, seconds_since_a_sign
from shop.deployment.service_manager import READY, STOPPING, ServiceManager

SERVING = "Serving the shop."
SERVING_AS_BEFORE = "Serving the shop as before. The reload has failed: see the log."
NO_PRELOAD = (
    "gunicorn's --preload (preload_app) can't be used: each process of the web server must load "
    "the shop by itself, so that its counts are its own and a reload brings new code. Leave it out."
)


class ServiceArbiter(Arbiter):  # type: ignore[misc]  # it has no types
    """Sends what systemd waits for from a unit with ``Type=notify``."""

    def __init__(self, app: Any) -> None:
        self.service_manager = ServiceManager()
        self.is_ready = False
        self.is_reloading = False
        self.is_stopping = False
        self.status = SERVING
        super().__init__(app)

    def setup(self, app: Any) -> None:
        """Take over gunicorn's settings. It calls this before it would load the shop."""
        if app.cfg.preload_app:
            sys.exit(NO_PRELOAD)
        super().setup(app)

    def halt(self, reason: Any = None, exit_status: int = 0) -> None:
        """Stop. A wrong setting ends gunicorn with the same exit code as other programs."""
        self.service_manager.send(STOPPING)
        self.is_stopping = True
        super().halt(reason, 1 if exit_status == self.APP_LOAD_ERROR else exit_status)

    def reap_workers(self) -> None:
        """Collect the processes that have ended.

        gunicorn stops when one could not load the shop. It would do so again, in the middle of
        that, for the next one.
        """
        try:
            super().reap_workers()
        except HaltServer:
            if not self.is_stopping:
                raise
            self.reap_workers()

    def manage_workers(self) -> None:
        """Keep as many processes as there should be. gunicorn calls this once a second or more."""
        super().manage_workers()
        self.report_state()

    def reload(self) -> None:
        """Replace the processes without a gap. gunicorn calls this for SIGHUP."""
        self.service_manager.send_reloading()
        self.status = SERVING if replace_processes(self) else SERVING_AS_BEFORE
        self.is_ready = False

    def report_state(self) -> None:
        """Say that the shop is ready once all its processes serve, and that one of them lives."""
        ages = [seconds_since_a_sign(worker) for worker in self.WORKERS.values()]
        if any(age is not None and age <= (self.timeout or age) for age in ages):
            self.service_manager.send_alive()
        if not self.is_ready and len(ages) >= self.num_workers and None not in ages:
            self.is_ready = True
            self.service_manager.send(READY, f"STATUS={self.status}")
