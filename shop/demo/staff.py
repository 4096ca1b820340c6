"""Staff of a new shop: the first user, and a new password for a lost one."""

from __future__ import annotations

import axes.utils
from django.contrib.auth.models import User
from django.utils.crypto import get_random_string

USERNAME = "admin"


def ensure_staff() -> tuple[str, str] | None:
    """Make a superuser unless there is staff; return (name, password), or None.

    Only a hash of the password is stored: nobody can read it later.
    """
    if User.objects.filter(is_staff=True, is_active=True).exists():
        return None
    return _make_superuser()


def renew_password() -> tuple[str, str]:
    """Give the superuser a new password; return (name, password).

    If there are several, the first one gets it; if there is none, one is made. Failed attempts to
    log in under that name are deleted, since they may have locked it.
    """
    somebody = User.objects.filter(is_staff=True, is_active=True, is_superuser=True)
    user = somebody.order_by("pk").first()
    if user is None:
        return _make_superuser()
    password = _new_password()
    user.set_password(password)
    user.save(update_fields=["password"])
    axes.utils.reset(username=user.get_username())
    return user.get_username(), password


def _make_superuser() -> tuple[str, str]:
    name = USERNAME
    if User.objects.filter(username=name).exists():  # such as a former superuser's
        name = f"{USERNAME}-{get_random_string(6).lower()}"
    password = _new_password()
    User.objects.create_superuser(username=name, password=password)
    return name, password


def _new_password() -> str:
    return get_random_string(16)
