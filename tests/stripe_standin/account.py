"""The merchant's account: its keys, and whether it may take payments."""

from __future__ import annotations

import base64
import binascii
import re

from .errors import ApiError

SECRET_KEY = "sk_test_standin"
LIVE_SECRET_KEY = "sk_live_standin"
RESTRICTED_KEY = "rk_test_standin"


class Account:
    """``keys`` are the API keys that exist; tests may add some, and revoke them."""

    def __init__(self) -> None:
        self.id = "acct_standin"
        self.keys = {SECRET_KEY, LIVE_SECRET_KEY, RESTRICTED_KEY}
        self.is_restricted = False
        self._denied: list[re.Pattern[str]] = []

    def add_key(self, key: str) -> None:
        """Let a key be right. Its prefix says its mode, as in ``sk_live_…`` or ``rk_test_…``."""
        if not key.startswith(("sk_test_", "sk_live_", "rk_test_", "rk_live_")):
            raise ValueError(f"No API key of Stripe begins like {key!r}.")
        self.keys.add(key)

    def revoke_key(self, key: str) -> None:
        """Let a key be wrong from now on."""
        self.keys.discard(key)

    def deny(self, on: str) -> None:
        """Take the permission for requests of this name away from restricted keys (rk_…)."""
        self._denied.append(re.compile(on))

    def check_permission(self, key: str, name: str) -> None:
        """Raise ApiError if the key lacks the permission for a request of this name."""
        if key.startswith("rk_") and any(denied.fullmatch(name) for denied in self._denied):
            raise ApiError(
                f"The provided key '{_shown(key)}' does not have the required permissions for this "
                f"endpoint on account '{self.id}'.",
                status=403,
            )

    def restrict(self) -> None:
        """Take away the right to charge, as Stripe does while it checks a merchant."""
        self.is_restricted = True

    def lift_restriction(self) -> None:
        """Give the right to charge back."""
        self.is_restricted = False

    def check_may_charge(self) -> None:
        """Raise ApiError if the account is restricted."""
        if self.is_restricted:
            raise ApiError(
                "Your account cannot currently make charges. Please review the requirements of "
                "your account in the Dashboard.",
                status=403,
            )

    def key_of(self, authorization: str) -> str:
        """Return the key that an Authorization header holds. Raises ApiError."""
        key = _presented_key(authorization)
        if not key:
            raise ApiError(
                "You did not provide an API key. You need to provide your API key in the "
                "Authorization header, using Bearer auth (e.g. 'Authorization: Bearer "
                "YOUR_SECRET_KEY').",
                status=401,
                headers={"WWW-Authenticate": 'Basic realm="Stripe"'},
            )
        if key not in self.keys:
            raise ApiError(f"Invalid API Key provided: {_shown(key)}", status=401)
        return key


def is_live(key: str) -> bool:
    """Tell the mode of a key by its prefix."""
    return "_live_" in key


def _shown(key: str) -> str:
    return f"{key[:8]}{'*' * max(len(key) - 12, 0)}{key[-4:]}"


def _presented_key(authorization: str) -> str:
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[0]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return ""
