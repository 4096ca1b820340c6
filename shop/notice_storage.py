"""Notices in a signed cookie, as Django keeps them, but not compressed.

A notice of ours is so short that compressing it saves 24 bytes, and takes longer than signing it.
"""

from __future__ import annotations

from typing import Any

from django.contrib.messages.storage.cookie import CookieStorage, MessagePartGatherSerializer


class NoticeStorage(CookieStorage):
    signer: Any

    def value_to_send(self) -> str:
        """The cookie's value with the notices of this request alone."""
        storage: Any = self
        value: str = storage._encode(storage._queued_messages)
        return value

    def _encode_parts(self, messages: Any, encode_empty: bool = False) -> str | None:
        if not messages and not encode_empty:
            return None
        signed: str = self.signer.sign_object(messages, serializer=MessagePartGatherSerializer)
        return signed
