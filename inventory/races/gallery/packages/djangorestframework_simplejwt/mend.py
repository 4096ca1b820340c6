"""A refresh token that gives a new one once, however many ask at the same moment."""

from typing import Any

from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.serializers import TokenRefreshSerializer
from rest_framework_simplejwt.tokens import RefreshToken


class OneTimeToken(RefreshToken):
    """Looks at who has put it on the blacklist: its row there is unique."""

    def blacklist(self) -> Any:
        row, is_mine = super().blacklist()
        if not is_mine:
            raise TokenError("Token is blacklisted")
        return row, is_mine


class RefreshOnce(TokenRefreshSerializer):
    token_class = OneTimeToken
