"""gunicorn's master process, which tells systemd how far it is.

By itself gunicorn says that it is ready before a process of its has loaded the shop. And nothing
watches the master, which watches the others.
"""

from __future__ import annotations

import time
from typing import Any

from gunicorn.arbiter import Arbiter

from shop.deployment.service_manager import READY, STOPPING, ServiceManager


class ServiceArbiter(Arbiter):  # type: ignore[misc]  # it has no types
    """Sends what systemd waits for from a unit with ``Type=notify``."""

    def __init__(self, app: Any) -> None:
        self.service_manager = ServiceManager()
        self.is_ready = False
        super().__init__(app)

    def manage_workers(self) -> None:
        """Keep as many processes as there should be. gunicorn calls this once a second or more."""
        super().manage_workers()
        self.tell_how_we_are()

    def reload(self) -> None:
        self.service_manager.send_reloading()
        self.is_ready = False
        super().reload()

    def halt(self, *args: Any, **kwargs: Any) -> None:
        self.service_manager.send(STOPPING)
        super().halt(*args, **kwargs)

    def tell_how_we_are(self) -> None:
        """Say that the shop is ready once all its processes serve, and that one of them lives."""
        ages = [seconds_since_a_sign(worker) for worker in self.WORKERS.values()]
        if any(age is not None and age <= (self.timeout or age) for age in ages):
            self.service_manager.send_alive()
        if not self.is_ready and len(ages) >= self.num_workers and None not in ages:
            self.is_ready = True
            self.service_manager.send(READY, "STATUS=Serving the shop.")


def seconds_since_a_sign(worker: Any) -> float | None:
    """How long ago the process's main loop last turned; None if it doesn't take requests yet.

    It leaves the sign as a file's time, by the monotonic clock. A new file has the time of day.
    """
    seconds = time.monotonic() - float(worker.tmp.last_update())
    return None if seconds < 0 else seconds
