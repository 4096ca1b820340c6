"""Flags and switches, with a cache that holds what is there for all to see.

Pages write to the cache by ``add()``, which leaves an entry alone that is there: so a page that
has read the old value can't bring it back. Two changes at the same moment could still swap theirs.
"""

from __future__ import annotations

from django.db import transaction
from waffle.models import Flag, Switch
from waffle.utils import get_cache, get_setting, keyfmt


def add_member(flag: Flag, user_id: int) -> None:
    """Add the user, and put the members into the cache once that is committed."""
    with transaction.atomic():
        flag.users.add(user_id)
        transaction.on_commit(lambda: cache_members(flag))


def cache_members(flag: Flag) -> None:
    key = keyfmt(get_setting("FLAG_USERS_CACHE_KEY"), flag.name)
    get_cache().set(key, set(flag.users.values_list("pk", flat=True)))


def turn_on(switch: Switch) -> None:
    """Save the switch, and put it into the cache once that is committed."""
    switch.active = True
    with transaction.atomic():
        switch.save()
        transaction.on_commit(lambda: get_cache().set(Switch._cache_key(switch.name), switch))
