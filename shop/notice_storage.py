"""Notices in a signed cookie, as Django keeps them, but not compressed.

A notice of ours is so short that compressing it saves 24 bytes, and takes longer than signing it.
"""

from __future__ import annotations

from typing import Any

from django.contrib.messages.storage.base import BaseStorage
from django.contrib.messages.storage.cookie import CookieStorage, MessagePartGatherSerializer
from django.http import HttpRequest

from shop.cookie_signers import cookie_signer


class NoticeStorage(CookieStorage):
    def __init__(self, request: HttpRequest) -> None:
        BaseStorage.__init__(self, request)
        self.signer = cookie_signer(self.key_salt)

    def value_to_send(self) -> str:
        """The cookie's value with the notices of this request alone."""
        storage: Any = self
        value: str = storage._encode(storage._queued_messages)
        return value

    def _encode_parts(self, messages: Any, encode_empty: bool = False) -> str | None:
        if not messages and not encode_empty:
            return None
        serializer: Any = MessagePartGatherSerializer
        return self.signer.sign_object(messages, serializer=serializer)
