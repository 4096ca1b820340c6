"""The objects of the account, and the one lock under which they change."""

from __future__ import annotations

import functools
import heapq
import itertools
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from .clock import Clock
from .errors import NotPossible, ResourceMissing

Object = dict[str, Any]
"""An object of the API, as its JSON shows it."""

P = ParamSpec("P")
R = TypeVar("R")


class Announce(Protocol):
    """Queue a message about an object; ``previous`` holds the old values of changed fields."""

    def __call__(self, kind: str, object: Object, previous: Object | None = None) -> None: ...


class Ledger:
    """All objects by id, the oldest first. Nothing is ever removed."""

    def __init__(self, clock: Clock, announce: Announce) -> None:
        self.clock = clock
        self.announce = announce
        self._objects: dict[str, Object] = {}
        self._live: set[str] = set()
        self._timers: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._lock = threading.RLock()

    def catch_up(self) -> None:
        """Let happen whatever is due by the clock."""
        with self.turn():
            pass

    @contextmanager
    def turn(self) -> Iterator[None]:
        """The turn of one request or deed: whatever was due by the clock has happened before."""
        with self._lock:
            while self._timers and self._timers[0][0] <= self.clock.now():
                _, _, ring = heapq.heappop(self._timers)
                ring()
            yield

    def ring_at(self, time: int, ring: Callable[[], None]) -> None:
        """Call this in the first turn at or after the time."""
        heapq.heappush(self._timers, (time, next(self._numbers), ring))

    def add(self, prefix: str, fields: Object, *, livemode: bool) -> Object:
        """Keep a new object under an id with this prefix."""
        new = {"id": f"{prefix}_{uuid.uuid4().hex[:24]}", "created": self.clock.now(), **fields}
        self._objects[new["id"]] = new
        if livemode:
            self._live.add(new["id"])
        return new

    def get(self, id: str, kind: str) -> Object:
        """Return the object with this id. Raises ResourceMissing."""
        found = self._objects.get(id)
        if found is None or found["object"] != kind:
            raise ResourceMissing(kind, id)
        return found

    def find(self, id: str) -> Object | None:
        """Return the object with this id, of whichever kind; None if no object has it."""
        return self._objects.get(id)

    def all(self, kind: str) -> list[Object]:
        """Return the objects of a kind, the oldest first."""
        return [one for one in self._objects.values() if one["object"] == kind]

    def is_live(self, id: str) -> bool:
        """Tell whether the object was made by a key of live mode."""
        return id in self._live

    def charge_of(self, payment: str) -> Object:
        """Return the charge of a payment, that is named by its session, intent or charge.

        Raises NotPossible if there is no charge.
        """
        found = self.find(payment)
        if found is not None and found["object"] == "checkout.session":
            found = self.find(found["payment_intent"] or "")
        if found is not None and found["object"] == "payment_intent":
            found = self.find(found["latest_charge"] or "")
        if found is None or found["object"] != "charge":
            raise NotPossible(f"{payment} has no charge")
        return found

    def balance_transaction(
        self, source: Object, amount: int, *, fee: int, type: str, category: str
    ) -> Object:
        """Keep how the account's balance changed."""
        return self.add(
            "txn",
            {
                "object": "balance_transaction",
                "amount": amount,
                "available_on": self.clock.now() + 2 * 86400,
                "balance_type": "payments",
                "currency": source["currency"],
                "description": None,
                "exchange_rate": None,
                "fee": fee,
                "fee_details": _fee_details(fee, source["currency"]),
                "net": amount - fee,
                "reporting_category": category,
                "source": source["id"],
                "status": "pending",
                "type": type,
            },
            livemode=self.is_live(source["id"]),
        )


def _fee_details(fee: int, currency: str) -> list[Object]:
    if not fee:
        return []
    return [
        {
            "amount": fee,
            "application": None,
            "currency": currency,
            "description": "Stripe processing fees",
            "type": "stripe_fee",
        }
    ]


class HasLedger(Protocol):
    """Anything whose deeds change the ledger."""

    ledger: Ledger


S = TypeVar("S", bound=HasLedger)


def deed(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Do the method in a turn of its own, and return a copy that later deeds leave as it is."""

    @functools.wraps(method)
    def in_turn(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self.ledger.turn():
            return deepcopy(method(self, *args, **kwargs))

    return in_turn
