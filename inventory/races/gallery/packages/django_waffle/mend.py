"""Flags and switches, with a cache that holds what is there for all to see."""

from __future__ import annotations

from django.db import transaction
from waffle.models import Flag, Switch
from waffle.utils import get_cache


def add_member(flag: Flag, user_id: int) -> None:
    """Add the user, and empty the flag's cache again once that is committed."""
    with transaction.atomic():
        flag.users.add(user_id)
        transaction.on_commit(flag.flush)


def turn_on(switch: Switch) -> None:
    """Save the switch, and put it into the cache: a page that has read the old one adds nothing.

    Pages write by ``add()``, which leaves an entry alone that is there. Only two changes of one
    switch at the same moment could still swap their entries.
    """
    switch.active = True
    with transaction.atomic():
        switch.save()
        transaction.on_commit(lambda: get_cache().set(Switch._cache_key(switch.name), switch))
