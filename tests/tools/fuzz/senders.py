"""The senders of requests, and their cookies.

Each kind of staff has a session. The clerk is staff in no group, and so may do nothing.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group, User
from django.contrib.sessions.backends.db import SessionStore

from shop.middleware import buyer
from tests.tools.fuzz.forms import STAFF
from tests.tools.fuzz.generator import CSRF
from tests.tools.fuzz.people import BOB

PASSWORD = "a-Password-of-the-drill"


@functools.cache
def hashed() -> str:
    """The password's hash, made once: it takes a third of a second."""
    return make_password(PASSWORD)


@dataclass(frozen=True)
class Sender:
    role: str
    cookies: str
    buyer: str = ""
    """The key of a buyer."""
    session: str = ""
    user: int = 0
    """The primary key of staff's user."""

    @property
    def is_staff(self) -> bool:
        return self.user != 0


def make_senders() -> dict[str, Sender]:
    """Make a session for each kind of staff; restore users who were changed or deleted."""
    csrf = f"{settings.CSRF_COOKIE_NAME}={CSRF}"
    key = f"{buyer.cookie_name()}={buyer.signed_key(BOB.key)}"
    senders = [
        Sender("visitor", csrf),
        Sender("buyer", f"{csrf}; {key}", buyer=BOB.key),
        *(_staff(role, csrf) for role in STAFF),
    ]
    return {sender.role: sender for sender in senders}


def _staff(role: str, csrf: str) -> Sender:
    is_superuser = role == "superuser"
    user, _ = User.objects.update_or_create(
        username=f"fuzz-{role}",
        defaults={"is_staff": True, "is_active": True, "is_superuser": is_superuser},
    )
    user.password = hashed()
    user.save()
    user.groups.set(Group.objects.filter(name=role))
    user.user_permissions.clear()
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[-1]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.create()
    name = str(session.session_key)
    cookies = f"{csrf}; {settings.SESSION_COOKIE_NAME}={name}"
    return Sender(role, cookies, session=name, user=user.pk)
