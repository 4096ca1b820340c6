"""Django's signers of cookies, kept: making one takes longer than signing with it."""

from __future__ import annotations

import functools

from django.conf import settings
from django.core import signing


def cookie_signer(salt: str) -> signing.TimestampSigner:
    """The signer of the cookies that have this salt."""
    return _cookie_signer(salt, str(settings.SECRET_KEY), *settings.SECRET_KEY_FALLBACKS)


@functools.cache
def _cookie_signer(salt: str, *keys: str) -> signing.TimestampSigner:
    return signing.get_cookie_signer(salt=salt)
