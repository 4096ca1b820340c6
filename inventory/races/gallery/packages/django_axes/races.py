"""After three wrong passwords an account is locked: nobody's fourth is looked at."""

from __future__ import annotations

import logging

from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.conf import settings
from django.contrib.auth.models import User

from ....web import Request, request
from ...race import Ended, Race

logging.getLogger("axes").setLevel(logging.ERROR)


def one_guess_left() -> None:
    for model in (AccessAttempt, AccessFailureLog, AccessLog, User):
        model.objects.all().delete()
    User.objects.create_user("ann", password="the right one", pk=1)
    AccessAttempt.objects.create(
        pk=1, username="ann", ip_address="127.0.0.1", user_agent="<unknown>", failures_since_start=2
    )


def guess_at(path: str, password: str) -> Request:
    return request(path, data={"username": "ann", "password": password})


def wrong_passwords() -> int:
    return sum(AccessAttempt.objects.values_list("failures_since_start", flat=True))


def as_many_as_allowed_were_tried(ended: Ended) -> bool:
    return wrong_passwords() == settings.AXES_FAILURE_LIMIT


RACES = [
    Race(
        name="guess",
        title="Three passwords may be tried, and four are.",
        setup=one_guess_left,
        sessions={"A": guess_at("/log-in/", "mug"), "B": guess_at("/log-in/", "jug")},
        invariant=as_many_as_allowed_were_tried,
        describe=lambda: f"{wrong_passwords()} wrong passwords, 3 are allowed",
        mended={
            "A": guess_at("/log-in-in-turn/", "mug"),
            "B": guess_at("/log-in-in-turn/", "jug"),
        },
        mend=(
            "Let guesses at one account wait for each other: a lock on the username, held from "
            "before the failures are counted until this one is. (They are counted exactly, with "
            "F() and a row lock. But the question whether another guess is allowed comes first, "
            "and so many as arrive at once are allowed it.) The package could take a guess off "
            "before the password is looked at, and give it back after a success."
        ),
        known=(
            "Issue 592 of the package, from 2020: many requests at once pass the limit. It has the "
            "label of a known issue that won't be fixed."
        ),
        options={"reduce": True},
    )
]
