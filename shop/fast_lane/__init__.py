"""The fast lane: it answers the requests of a rush in the event loop, before Django."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


async def answer(scope: dict[str, Any], body: bytes) -> Answer | None:
    """Answer a request with this body; None if Django must answer it."""
    return None
