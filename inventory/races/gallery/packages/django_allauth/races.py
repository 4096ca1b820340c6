"""An address that has an account can't sign up again."""

from __future__ import annotations

from allauth.account.models import EmailAddress
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session

from ....web import Request, request
from ...race import Ended, Race

ADDRESS = "same@example.com"


def nobody() -> None:
    for model in (EmailAddress, User, Session):
        model.objects.all().delete()


def sign_up_at(path: str, username: str) -> Request:
    form = {"username": username, "email": ADDRESS, "password1": "hJk8#kkd92"}
    return request(path, data=form)


def accounts() -> int:
    return User.objects.filter(email=ADDRESS).count()


def address_has_one_account(ended: Ended) -> bool:
    return accounts() == 1


RACES = [
    Race(
        name="signup",
        title="One e-mail address gets two accounts.",
        setup=nobody,
        sessions={
            "Ann": sign_up_at("/accounts/signup/", "ann"),
            "Bob": sign_up_at("/accounts/signup/", "bob"),
        },
        invariant=address_has_one_account,
        describe=lambda: f"{accounts()} accounts of {ADDRESS}",
        mended={
            "Ann": sign_up_at("/signup-in-turn/", "ann"),
            "Bob": sign_up_at("/signup-in-turn/", "bob"),
        },
        mend=(
            "Let those who sign up with one address wait for each other: a lock on the address, "
            "from before the form asks whether it is taken until the account is committed. The "
            "second one sees the form's own message. The package could do the same where "
            "ACCOUNT_UNIQUE_EMAIL is set. (With mandatory verification, accounts that haven't "
            "verified an address may share it, and a constraint keeps it to one of them.)"
        ),
        known="Issue 410 of the package, from 2013 and closed, asks whether this can happen.",
    )
]
