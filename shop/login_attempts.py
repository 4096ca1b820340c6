"""The lock-out of django-axes by the database's clock.

axes itself takes each machine's own. One whose clock is ahead would delete the failed logins of all
others, and let them guess on.
"""

from __future__ import annotations

from typing import Any

from axes.handlers.database import AxesDatabaseHandler
from axes.models import AccessAttempt
from django.db.models.functions import Now
from django.db.models.signals import post_save
from django.dispatch import receiver
from django.http import HttpRequest

from shop.clock import read_clock


class LoginAttempts(AxesDatabaseHandler):  # type: ignore[misc]  # axes has no types
    """Counts failed logins. Each login asks ``is_allowed`` before all else."""

    def is_allowed(self, request: HttpRequest, credentials: dict[str, Any] | None = None) -> bool:
        request.axes_attempt_time = read_clock()  # type: ignore[attr-defined]
        allowed: bool = super().is_allowed(request, credentials)
        return allowed


@receiver(post_save, sender=AccessAttempt)
def take_databases_time(instance: AccessAttempt, created: bool, **kwargs: Any) -> None:
    """In a new row, replace the machine's time, which the field has put in by itself.

    axes creates the row in a transaction, so nobody sees it before this.
    """
    if created:
        AccessAttempt.objects.filter(pk=instance.pk).update(attempt_time=Now())
