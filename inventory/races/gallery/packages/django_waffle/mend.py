"""Members of a flag, with a cache that forgets them when the change is there for all to see."""

from django.db import transaction
from waffle.models import Flag


def add_member(flag: Flag, user_id: int) -> None:
    """Add the user, and empty the flag's cache again once that is committed."""
    with transaction.atomic():
        flag.users.add(user_id)
        transaction.on_commit(flag.flush)
