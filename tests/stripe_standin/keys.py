"""Idempotency keys: a repetition gets the first answer again, and does nothing more."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from dataclasses import dataclass

from .clock import Clock
from .errors import ApiError
from .exchange import Answer

REMEMBERED = 24 * 3600
LONGEST_KEY = 255


@dataclass
class _First:
    """The first request with a key; without an answer while it is carried out."""

    parameters: str
    since: int
    answer: Answer | None = None


class IdempotencyKeys:
    """The keys of the last 24 hours, each with its first request and the answer to it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._first: dict[str, _First] = {}
        self._lock = threading.Lock()

    def forget(self) -> None:
        """Forget all keys, as Stripe does when they are 24 hours old."""
        with self._lock:
            self._first.clear()

    def answer_once(
        self, key: str, mode: str, parameters: str, answer: Callable[[], Answer]
    ) -> Answer:
        """Return the key's first answer, or carry the request out if the key is new.

        ``mode`` is live or test: each has keys of its own. ``parameters`` are all that must be the
        same in a repetition. If ``answer`` raises, because validation failed, nothing is kept.

        Raises ApiError for a key in use, and for other parameters.
        """
        if len(key) > LONGEST_KEY:
            raise ApiError(
                f"Idempotency keys can be at most {LONGEST_KEY} characters long.",
                type="idempotency_error",
            )
        key_of_mode = f"{mode} {key}"
        first = self._claim(key_of_mode, parameters)
        if first is not None:
            headers = {**first.headers, "Idempotent-Replayed": "true"}
            return dataclasses.replace(first, headers=headers, is_replayed=True)
        kept = None
        try:
            kept = answer()
            return kept
        finally:
            self._release(key_of_mode, kept)

    def _claim(self, key: str, parameters: str) -> Answer | None:
        """Take the key for this request, or return the answer to the first one."""
        with self._lock:
            first = self._first.get(key)
            if first is None or first.since + REMEMBERED <= self._clock.now():
                self._first[key] = _First(parameters, self._clock.now())
                return None
            if first.parameters != parameters:
                raise ApiError(
                    "Keys for idempotent requests can only be used with the same parameters they "
                    f"were first used with. Try using a key other than '{key}' if you meant to "
                    "execute a different request.",
                    type="idempotency_error",
                )
            if first.answer is None:
                raise ApiError(
                    "There is currently another in-progress request using this Idempotent Key "
                    "(that probably means you submitted twice, and the other request is still "
                    f"going through): {key}. Please try again later.",
                    status=409,
                    code="idempotency_key_in_use",
                )
            return first.answer

    def _release(self, key: str, kept: Answer | None) -> None:
        with self._lock:
            if kept is None:
                self._first.pop(key, None)
            elif key in self._first:
                self._first[key].answer = kept
