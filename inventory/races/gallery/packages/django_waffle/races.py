"""Flags and switches that are read from a cache, while somebody changes them."""

from __future__ import annotations

import waffle
from django.contrib.auth.models import User
from django.core.cache import cache
from waffle.models import Flag, Switch

from ...race import Race
from . import mend

# A flag's members


def beta_without_members() -> None:
    cache.clear()
    for model in (Flag, User):
        model.objects.all().delete()
    User.objects.create(pk=1, username="ann")
    Flag.objects.create(pk=1, name="beta")


def invite_ann() -> None:
    Flag.objects.get(name="beta").users.add(1)


def invite_ann_mended() -> None:
    mend.add_member(Flag.objects.get(name="beta"), 1)


def ann_is_in() -> bool:
    return bool(Flag.get("beta").is_active_for_user(User(pk=1)))


# A switch


def sale_is_off() -> None:
    cache.clear()
    Switch.objects.all().delete()
    Switch.objects.create(pk=1, name="sale", active=False)


def turn_on() -> None:
    switch = Switch.objects.get(name="sale")
    switch.active = True
    switch.save()


def turn_on_mended() -> None:
    mend.turn_on(Switch.objects.get(name="sale"))


def sale_is_on() -> bool:
    return bool(waffle.switch_is_active("sale"))


RACES = [
    Race(
        name="members",
        title="A new member of a flag doesn't get its feature.",
        setup=beta_without_members,
        sessions={"Admin": invite_ann, "Page": ann_is_in},
        invariant=lambda ended: ann_is_in(),
        mended={"Admin": invite_ann_mended, "Page": ann_is_in},
        mend=(
            "Put the members into the cache after the COMMIT. The package empties it between the "
            "INSERT and the COMMIT, and a page that asks in between keeps the old members there "
            "until the timeout. It could do so by on_commit(), as it does for the flag itself; but "
            "emptying alone would leave the race that the switch has, below."
        ),
        mended_options={"cache": True, "max_preemptions": 2},
        known=(
            "Issue 296 of the package, from 2018, says so of the flag itself, and was mended. Of "
            "its members: not reported yet. Tell the maintainers first."
        ),
    ),
    Race(
        name="switch",
        title="A switch is turned on, and stays off until the cache forgets it.",
        setup=sale_is_off,
        sessions={"Admin": turn_on, "Page": sale_is_on},
        invariant=lambda ended: sale_is_on(),
        mended={"Admin": turn_on_mended, "Page": sale_is_on},
        mend=(
            "Put the new value into the cache after the COMMIT, instead of taking the old one out: "
            "pages that have read the old one add it only where there is none. The package could "
            "do so in flush(). Two changes at the same moment need more, as a version in the key."
        ),
        options={"cache": True},
    ),
]
