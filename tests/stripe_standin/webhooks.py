"""Messages to the shop: each deed queues those that Stripe would send, ``deliver`` posts them."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import secrets
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from .clock import Clock
from .errors import NotPossible

API_VERSION = "2026-10-28.endive"
SECRET = "whsec_standin"
LONGEST_WAIT = 20.0  # seconds for the shop's answer


class Signed(NamedTuple):
    """A message as it is posted: its body, and the header ``Stripe-Signature``."""

    body: bytes
    signature: str


@dataclass(frozen=True)
class Message:
    """A message about an object, as the object was when it was queued."""

    id: str
    kind: str
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        """The message, read."""
        event: dict[str, Any] = json.loads(self.body)
        return event

    @property
    def object(self) -> dict[str, Any]:
        """The object that the message is about."""
        about: dict[str, Any] = self.event["data"]["object"]
        return about


@dataclass(frozen=True)
class Delivery:
    """One attempt to deliver a message; ``status`` is None if the shop couldn't be reached."""

    id: str
    kind: str
    status: int | None

    @property
    def is_accepted(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


class Webhooks:
    """The account's one webhook endpoint.

    ``secrets`` sign each message: two of them while a secret is changed.
    """

    def __init__(self, clock: Clock, *, url: str = "", secret: str = SECRET) -> None:
        self.catch_up: Callable[[], None] = lambda: None
        """Lets happen whatever is due by the clock, before the queue is looked at."""
        self.url = url
        self.secrets = [secret]
        self.api_version = API_VERSION
        self.deliveries: list[Delivery] = []
        self._clock = clock
        self._kinds: set[str] | None = None
        self._messages: dict[str, Message] = {}
        self._queued: list[str] = []
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._courier: threading.Thread | None = None

    def set_url(self, url: str) -> None:
        """Change the address that messages are delivered to."""
        self.url = url

    def enable_events(self, kinds: Iterable[str] | None) -> None:
        """Queue messages of these kinds alone from now on, as the endpoint asks; all if None."""
        self._kinds = None if kinds is None else set(kinds)

    def announce(
        self, kind: str, object: dict[str, Any], previous: dict[str, Any] | None = None
    ) -> None:
        """Queue a message about the object as it is now."""
        message = self._message(kind, object, previous)
        with self._lock:
            self._messages[message.id] = message
            if self._kinds is None or kind in self._kinds:
                self._queued.append(message.id)

    def event(
        self,
        kind: str,
        object: dict[str, Any],
        *,
        id: str = "",
        at: int | None = None,
        secret: str = "",
        api_version: str = "",
    ) -> Signed:
        """Make up a message, that is queued nowhere. ``at`` is the signature's time."""
        message = self._message(kind, object, None, id=id, api_version=api_version)
        return self.sign(message.body, at=at, secret=secret)

    def sign(self, body: bytes, *, at: int | None = None, secret: str = "") -> Signed:
        """Sign a body, by the secrets of the endpoint or by the given one."""
        signed_at = self._clock.now() if at is None else at
        by = [secret] if secret else self.secrets
        signatures = ",".join(f"v1={_signature(body, signed_at, one)}" for one in by)
        return Signed(body, f"t={signed_at},{signatures}")

    def roll_secret(self, new: str = "") -> str:
        """Change the secret; both sign until ``drop_old_secret``. Return the new one."""
        self.secrets = [new or f"whsec_{secrets.token_hex(16)}", self.secrets[0]]
        return self.secrets[0]

    def drop_old_secret(self) -> None:
        """Sign by the new secret alone."""
        self.secrets = self.secrets[:1]

    def queued(self, kind: str = "") -> list[Message]:
        """Return the messages that the shop hasn't accepted yet, the oldest first."""
        self.catch_up()
        with self._lock:
            messages = [self._messages[id] for id in self._queued]
        return [one for one in messages if kind in ("", one.kind)]

    def messages(self, kind: str = "") -> list[Message]:
        """Return all messages, also those that the shop accepted, the oldest first."""
        self.catch_up()
        with self._lock:
            messages = list(self._messages.values())
        return [one for one in messages if kind in ("", one.kind)]

    def drop_queued(self) -> None:
        """Let the queued messages never come."""
        with self._lock:
            self._queued.clear()

    def deliver(
        self, ids: Iterable[str] | None = None, *, attempts: int = 1, at: int | None = None
    ) -> list[Delivery]:
        """Post messages to the shop, and return how each attempt went.

        Without ids: all that are queued. With ids: those, in this order, also again; an id that
        is named twice is delivered twice. Each is tried until the shop accepts it, at most
        ``attempts`` times; it stays queued if the shop doesn't.
        """
        wanted = [message.id for message in self.queued()] if ids is None else list(ids)
        done = []
        for id in wanted:
            for _ in range(attempts):
                delivery = self._post(id, at)
                done.append(delivery)
                if delivery.is_accepted:
                    break
        return done

    def start_courier(self, seconds: float = 0.2) -> None:
        """Deliver by itself from now on, again and again, until the shop accepts each message."""
        self.stop_courier()
        self._stopped = threading.Event()
        self._courier = threading.Thread(target=self._deliver_often, args=(seconds,), daemon=True)
        self._courier.start()

    def stop_courier(self) -> None:
        """Deliver only on demand from now on."""
        if self._courier is not None:
            self._stopped.set()
            self._courier.join()
            self._courier = None

    def wait_until_delivered(self, seconds: float = 20.0) -> None:
        """Wait until no message is queued. Raises TimeoutError."""
        until = time.monotonic() + seconds
        while self.queued():
            if time.monotonic() > until:
                raise TimeoutError(f"{len(self.queued())} messages are still queued")
            time.sleep(0.02)

    def _deliver_often(self, seconds: float) -> None:
        while not self._stopped.wait(seconds):
            for message in self.queued():
                if not self._stopped.is_set():
                    self._post(message.id, None)

    def _message(
        self,
        kind: str,
        object: dict[str, Any],
        previous: dict[str, Any] | None,
        *,
        id: str = "",
        api_version: str = "",
    ) -> Message:
        data: dict[str, Any] = {"object": object}
        if previous:
            data["previous_attributes"] = previous
        id = id or f"evt_{uuid.uuid4().hex[:24]}"
        event = {
            "id": id,
            "object": "event",
            "api_version": api_version or self.api_version,
            "created": self._clock.now(),
            "data": data,
            "livemode": bool(object.get("livemode", False)),
            "pending_webhooks": 1,
            "request": {"id": None, "idempotency_key": None},
            "type": kind,
        }
        return Message(id, kind, json.dumps(event, indent=2).encode())

    def _post(self, id: str, at: int | None) -> Delivery:
        if not self.url:
            raise NotPossible("the stand-in knows no address to deliver to")
        message = self._messages.get(id)
        if message is None:
            raise NotPossible(f"there is no message {id}")
        signed = self.sign(message.body, at=at)
        request = urllib.request.Request(
            self.url,
            data=signed.body,
            headers={
                "Content-Type": "application/json; charset=utf-8",
                "Stripe-Signature": signed.signature,
                "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
            },
        )
        delivery = Delivery(id, message.kind, _status_of_answer(request))
        with self._lock:
            self.deliveries.append(delivery)
            if delivery.is_accepted and id in self._queued:
                self._queued.remove(id)
        return delivery


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """Stripe takes a redirect for a failure."""

    def redirect_request(self, *args: Any) -> None:
        return None


def _status_of_answer(request: urllib.request.Request) -> int | None:
    opener = urllib.request.build_opener(NoRedirects, urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=LONGEST_WAIT) as answer:
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except (OSError, http.client.HTTPException):  # nobody listens, or was killed while answering
        return None


def _signature(body: bytes, at: int, secret: str) -> str:
    return hmac.new(secret.encode(), b"%d." % at + body, hashlib.sha256).hexdigest()
