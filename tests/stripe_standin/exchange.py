"""A request that came by HTTP, and the answer to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Request:
    """A request; the names of its headers are in small letters."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def name(self) -> str:
        """Method and path, as faults and the log know it: ``POST /v1/refunds``."""
        return f"{self.method} {self.path}"

    @property
    def form(self) -> str:
        """The parameters, form-encoded: in the query of a GET, else in the body."""
        return self.query if self.method == "GET" else self.body.decode(errors="replace")


@dataclass(frozen=True)
class Answer:
    """An answer, ready to be sent."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    is_replayed: bool = False
    drip_seconds: float = 0.0

    @classmethod
    def of_json(cls, value: Any, status: int = 200, headers: Mapping[str, str] = {}) -> Answer:
        """Answer with JSON, indented as Stripe's is."""
        body = json.dumps(value, indent=2).encode()
        return cls(status, body, {"Content-Type": "application/json", **headers})

    @classmethod
    def of_html(cls, page: str, status: int = 200) -> Answer:
        """Answer with a page."""
        return cls(status, page.encode(), {"Content-Type": "text/html; charset=utf-8"})
