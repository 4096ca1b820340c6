"""Faults and hooks: how requests go wrong, and where tests look in."""

from __future__ import annotations

import dataclasses
import itertools
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

from .errors import ApiError
from .exchange import Answer, Request

Kind = Literal[
    "answer_lost",
    "connection_closed",
    "server_error",
    "unavailable",
    "rate_limited",
    "lock_timeout",
    "garbage",
    "slow",
    "drip",
    "pause_before",
    "pause_after",
]
"""The ways in which a request goes wrong:

- ``answer_lost``: it is done, and the connection is closed without an answer
- ``connection_closed``: the connection is closed, nothing is done
- ``server_error``: 500, which the idempotency key keeps; nothing is done, unless ``done``
- ``unavailable``: 503 from in front of the API: nothing is done, and no key keeps it
- ``rate_limited``, ``lock_timeout``: 429, from in front of the keys; only after the second of
  them Stripe asks for a retry
- ``garbage``: 200 with HTML, from a proxy; nothing is done, unless ``done``
- ``slow``: it is done, and the answer comes after ``seconds``
- ``drip``: it is done, and the answer comes byte by byte, for ``seconds``
- ``pause_before``, ``pause_after``: it waits for ``resume`` or ``drop``, before or after it is
  done
"""

Hook = Callable[[Request], object]
LONGEST_PAUSE = 60.0  # seconds; then a paused request goes on by itself
HTML = "<!doctype html><title>Bad gateway</title><p>The proxy had a problem."


class ConnectionLost(Exception):
    """Close the connection instead of answering."""


@dataclass(eq=False)
class Fault:
    """Something that happens to the next ``left`` requests of this name; to all if None."""

    id: int
    on: re.Pattern[str]
    left: int | None
    kind: Kind | None = None
    seconds: float = 0.0
    done: bool = False
    before: Hook | None = None
    after: Hook | None = None


@dataclass
class Trouble:
    """All that happens to one request, in the order of its methods."""

    faults: list[Fault]
    owner: Faults
    kinds: set[Kind] = field(init=False)

    def __post_init__(self) -> None:
        self.kinds = {fault.kind for fault in self.faults if fault.kind}

    def at_the_door(self) -> Answer | None:
        """Before the request is looked at. An answer is sent instead of carrying it out.

        Raises ConnectionLost, ApiError.
        """
        if "connection_closed" in self.kinds:
            raise ConnectionLost
        if "unavailable" in self.kinds:
            raise ApiError("Stripe is unavailable.", status=503, type="api_error")
        if "rate_limited" in self.kinds:
            raise ApiError(
                "Request rate limit exceeded. Learn more about rate limits here "
                "https://stripe.com/docs/rate-limits.",
                status=429,
                code="rate_limit",
                headers={"Stripe-Rate-Limited-Reason": "global-rate"},
            )
        if "lock_timeout" in self.kinds:
            raise ApiError(
                "This object cannot be accessed right now because another API request or Stripe "
                "process is currently accessing it. If you see this error intermittently, retry "
                "the request.",
                status=429,
                code="lock_timeout",
                headers={"Stripe-Should-Retry": "true"},
            )
        if any(fault.kind == "garbage" and not fault.done for fault in self.faults):
            return Answer.of_html(HTML)
        return None

    def before(self, request: Request) -> None:
        """Before the request is done, with its key in use. Raises ConnectionLost.

        Also raises ApiError, which the key keeps.
        """
        for fault in self.faults:
            if fault.before:
                fault.before(request)
        if "pause_before" in self.kinds and not self.owner.pause(request):
            raise ConnectionLost
        if any(fault.kind == "server_error" and not fault.done for fault in self.faults):
            raise _server_error()

    def when_done(self) -> None:
        """After the request is done, with its key in use. Raises ApiError, which the key keeps."""
        if "server_error" in self.kinds:
            raise _server_error()

    def on_the_way_back(self, request: Request, answer: Answer) -> Answer:
        """After the key keeps the answer. Returns what is sent. Raises ConnectionLost."""
        for fault in self.faults:
            if fault.after:
                fault.after(request)
            if fault.kind == "slow":
                self.owner.stopped.wait(fault.seconds)
        if "pause_after" in self.kinds and not self.owner.pause(request):
            raise ConnectionLost
        if "answer_lost" in self.kinds:
            raise ConnectionLost
        if "garbage" in self.kinds:
            return Answer.of_html(HTML)
        drip_seconds = sum(fault.seconds for fault in self.faults if fault.kind == "drip")
        return dataclasses.replace(answer, drip_seconds=drip_seconds)


class Faults:
    """The faults and hooks of the requests to come.

    Each begins at requests whose method and path match a regular expression as a whole, as in
    ``POST /v1/refunds`` or ``GET /v1/checkout/sessions/.*``.
    """

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self._faults: list[Fault] = []
        self._numbers = itertools.count(1)
        self._paused: list[Pause] = []
        self._changed = threading.Condition()

    def add(
        self,
        on: str,
        kind: Kind,
        *,
        times: int | None = 1,
        seconds: float = 0.0,
        done: bool = False,
    ) -> int:
        """Let the next requests go wrong, all of them if ``times`` is None; return its number."""
        if kind not in get_args(Kind):
            raise ValueError(f"{kind!r} is no kind of fault; there are {', '.join(get_args(Kind))}")
        fault = Fault(next(self._numbers), re.compile(on), times, kind, seconds, done)
        with self._changed:
            self._faults.append(fault)
        return fault.id

    def hook(
        self,
        on: str,
        *,
        before: Hook | None = None,
        after: Hook | None = None,
        times: int | None = 1,
    ) -> int:
        """Call something before the next request is done, or after; return its number.

        It is called by the thread that carries the request out. Nothing is locked meanwhile; only
        the request's idempotency key is in use, and only before.
        """
        fault = Fault(next(self._numbers), re.compile(on), times, before=before, after=after)
        with self._changed:
            self._faults.append(fault)
        return fault.id

    def remove(self, number: int) -> None:
        """End a fault or hook; it may be over already."""
        with self._changed:
            self._faults = [fault for fault in self._faults if fault.id != number]

    def clear(self) -> None:
        """End all faults and hooks, and let paused requests go on."""
        with self._changed:
            self._faults.clear()
        self.resume()

    def meet(self, request: Request) -> Trouble:
        """Return all that happens to this request, and count it."""
        with self._changed:
            met = [fault for fault in self._faults if fault.on.fullmatch(request.name)]
            for fault in met:
                if fault.left is not None:
                    fault.left -= 1
            self._faults = [fault for fault in self._faults if fault.left != 0]
        return Trouble(met, self)

    def pause(self, request: Request) -> bool:
        """Wait for ``resume``, or for ``drop``: then the answer is False."""
        pause = Pause(request.name)
        with self._changed:
            self._paused.append(pause)
            self._changed.notify_all()
        pause.ended.wait(LONGEST_PAUSE)
        return not pause.is_dropped

    def wait_until_paused(self, requests: int = 1, *, seconds: float = 10.0) -> list[str]:
        """Wait until so many requests are paused; return their names. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._paused) >= requests, seconds):
                raise TimeoutError(f"{len(self._paused)} of {requests} requests paused")
            return [pause.name for pause in self._paused]

    def resume(self) -> None:
        """Let all paused requests go on."""
        self._end_pauses(is_dropped=False)

    def drop(self) -> None:
        """Close the connections of all paused requests; what isn't done is never done."""
        self._end_pauses(is_dropped=True)

    def stop(self) -> None:
        """Let everything that waits go on, since the stand-in ends."""
        self.stopped.set()
        self.clear()

    def _end_pauses(self, *, is_dropped: bool) -> None:
        with self._changed:
            paused, self._paused = self._paused, []
        for pause in paused:
            pause.is_dropped = is_dropped
            pause.ended.set()


@dataclass(eq=False)
class Pause:
    """A request that waits."""

    name: str
    ended: threading.Event = field(default_factory=threading.Event)
    is_dropped: bool = False


def _server_error() -> ApiError:
    return ApiError(
        "An unknown error occurred",
        status=500,
        type="api_error",
        headers={"Stripe-Should-Retry": "false"},
    )
