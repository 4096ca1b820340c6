"""A feature is for the members of a flag. Ann becomes one, while a page asks who they are."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.core.cache import cache
from waffle.models import Flag

from ...race import Ended, Race
from .mend import add_member


def beta_without_members() -> None:
    cache.clear()
    for model in (Flag, User):
        model.objects.all().delete()
    User.objects.create(pk=1, username="ann")
    Flag.objects.create(pk=1, name="beta")


def invite_ann() -> None:
    Flag.objects.get(name="beta").users.add(1)


def invite_ann_mended() -> None:
    add_member(Flag.objects.get(name="beta"), 1)


def ann_is_in() -> bool:
    return bool(Flag.get("beta").is_active_for_user(User(pk=1)))


def database_and_cache_agree(ended: Ended) -> bool:
    return ann_is_in() == Flag.users.through.objects.filter(flag=1, user=1).exists()


RACES = [
    Race(
        name="members",
        title="A new member of a flag doesn't get its feature.",
        setup=beta_without_members,
        sessions={"Admin": invite_ann, "Page": ann_is_in},
        invariant=database_and_cache_agree,
        mended={"Admin": invite_ann_mended, "Page": ann_is_in},
        mend=(
            "Empty the flag's cache once more when the new member is committed. The package "
            "empties it between INSERT and COMMIT, and a page that asks in between keeps the old "
            "members in the cache until its timeout. It could do so by on_commit(), as it does "
            "for the flag itself."
        ),
        known=(
            "Issue 296 of the package, from 2018, says so of the flag itself, and was mended. Of "
            "its members: not reported yet. Tell the maintainers first."
        ),
    )
]
