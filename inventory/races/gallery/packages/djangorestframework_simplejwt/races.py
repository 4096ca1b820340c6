"""A refresh token is rotated: whoever shows it gets a new one, and the old one is worth nothing."""

from __future__ import annotations

from django.contrib.auth.models import User
from rest_framework_simplejwt.token_blacklist.models import BlacklistedToken, OutstandingToken
from rest_framework_simplejwt.tokens import RefreshToken

from ....web import Request, request
from ...race import Ended, Race

stolen: dict[str, str] = {}
"""The token that Ann and the thief have."""


def one_token() -> None:
    for model in (BlacklistedToken, OutstandingToken, User):
        model.objects.all().delete()
    ann = User.objects.create(pk=1, username="ann")
    stolen["refresh"] = str(RefreshToken.for_user(ann))


def refresh_at(path: str) -> Request:
    return request(path, data=lambda: stolen)


def one_was_given(ended: Ended) -> bool:
    return [given.status_code for given in ended.returned.values()].count(200) == 1


def tokens_in_words() -> str:
    valid = OutstandingToken.objects.filter(blacklistedtoken=None)
    return f"refresh tokens that are valid: {valid.count()}"


RACES = [
    Race(
        name="refresh",
        title="One refresh token gives two.",
        setup=one_token,
        sessions={"Ann": refresh_at("/refresh/"), "Thief": refresh_at("/refresh/")},
        invariant=one_was_given,
        describe=tokens_in_words,
        mended={"Ann": refresh_at("/refresh-once/"), "Thief": refresh_at("/refresh-once/")},
        mend=(
            "Look at what get_or_create() in blacklist() says: only the request that has added "
            "the row to the blacklist, where it is unique, gives a new token. Our own code does so "
            "in a subclass of RefreshToken; the package could do it in TokenRefreshSerializer."
        ),
        known=(
            "Issue 985 of the package has a race condition in its title, among other things, and "
            "was closed as invalid. This one: not reported yet. Tell the maintainers first, and in "
            "private, since tokens depend on it."
        ),
    )
]
