"""The requests that came, as Stripe's dashboard lists them."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass

from .exchange import Request


@dataclass
class LoggedRequest:
    """A request; ``status`` is None while, or if, nothing was done.

    ``is_answered`` is false if the connection was closed instead.
    """

    method: str
    path: str
    query: str
    form: str
    idempotency_key: str
    version: str
    status: int | None = None
    is_replayed: bool = False
    is_answered: bool = False


class RequestsLog:
    """All requests to the API and the pages, the oldest first."""

    def __init__(self) -> None:
        self._requests: list[LoggedRequest] = []
        self._lock = threading.Lock()

    def all(self, on: str = ".*") -> list[LoggedRequest]:
        """Return the requests whose method and path match, as in ``POST /v1/refunds``."""
        with self._lock:
            return [one for one in self._requests if re.fullmatch(on, f"{one.method} {one.path}")]

    def clear(self) -> None:
        """Forget the requests so far."""
        with self._lock:
            self._requests.clear()

    def begin(self, request: Request) -> LoggedRequest:
        """Note a request that has come."""
        logged = LoggedRequest(
            method=request.method,
            path=request.path,
            query=request.query,
            form=request.form,
            idempotency_key=request.headers.get("idempotency-key", ""),
            version=request.headers.get("stripe-version", ""),
        )
        with self._lock:
            self._requests.append(logged)
        return logged
