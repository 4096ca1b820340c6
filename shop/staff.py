"""The first member of staff of a new shop."""

from __future__ import annotations

import secrets

from django.contrib.auth.models import User

USERNAME = "admin"


def ensure_somebody() -> tuple[str, str] | None:
    """Make a user who may do everything, unless there is staff; return (name, password).

    The password is kept only as a hash: this is the one time that it can be told.
    """
    users = User.objects
    if users.filter(is_staff=True, is_active=True).exists():
        return None
    name = USERNAME
    if users.filter(username=name).exists():  # a customer's, or a member of staff who has left
        name = f"{USERNAME}-{secrets.token_hex(3)}"
    password = secrets.token_urlsafe(12)
    users.create_superuser(username=name, password=password)
    return name, password
