"""The banks of the restore drill: one in this process, and Stripe's stand-in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Protocol
from uuid import UUID

from django.conf import LazySettings

from tests.shop.reconcile.memory_bank import MemoryBank
from tests.stripe_standin import StripeStandin


class Charge(Protocol):
    """A payment in the bank's books, and the deeds there."""

    @property
    def key(self) -> UUID: ...
    @property
    def is_open(self) -> bool: ...
    @property
    def is_disputed(self) -> bool: ...
    @property
    def number_of_refunds(self) -> int: ...
    @property
    def kept(self) -> Decimal: ...
    def pay(self) -> None: ...
    def decline(self) -> None: ...
    def give_back(self, amount: Decimal) -> None: ...
    def dispute(self, amount: Decimal) -> None: ...
    def decide(self, *, won: bool) -> None: ...


class Bank(ABC):
    slug: str
    refunds_disputed: bool
    """Whether it gives money back while it is disputed."""

    @abstractmethod
    def charges(self) -> Sequence[Charge]:
        """All payments that were started, the oldest first."""


class BankInMemory(Bank):
    slug = "memory"
    refunds_disputed = True

    def charges(self) -> Sequence[Charge]:
        return list(MemoryBank.charges.values())


class BankOfStripe(Bank):
    slug = "stripe"
    refunds_disputed = False

    def __init__(self, standin: StripeStandin, settings: LazySettings) -> None:
        self.standin = standin
        settings.PAYMENT_PROVIDER = "stripe"
        settings.STRIPE_SECRET_KEY = standin.secret_key
        settings.STRIPE_WEBHOOK_SECRET = standin.webhook_secret
        settings.STRIPE_API_BASE = standin.url
        settings.BASE_URL = "http://testserver"

    def charges(self) -> Sequence[Charge]:
        return [StripeCharge(self.standin, session) for session in self.standin.sessions.all()]


class StripeCharge:
    def __init__(self, standin: StripeStandin, session: dict[str, Any]) -> None:
        self.standin = standin
        self.session = session
        self.id: str = session["id"]
        self.key = UUID(session["metadata"]["payment"])
        self.is_open: bool = session["status"] == "open"

    @property
    def is_disputed(self) -> bool:
        return any(each["status"] == "needs_response" for each in self._disputes())

    @property
    def number_of_refunds(self) -> int:
        intent = self.session["payment_intent"]
        return sum(each["payment_intent"] == intent for each in self.standin.refunds.all())

    @property
    def kept(self) -> Decimal:
        balances = [each for each in self.standin.books.balances() if each.session == self.id]
        return sum((Decimal(each.kept) for each in balances), Decimal(0)) / 100

    def pay(self) -> None:
        self.standin.sessions.pay(self.id)

    def decline(self) -> None:
        self.standin.sessions.expire(self.id)

    def give_back(self, amount: Decimal) -> None:
        self.standin.refunds.dashboard(self.id, int(amount * 100))

    def dispute(self, amount: Decimal) -> None:
        self.standin.disputes.open(self.id, int(amount * 100))

    def decide(self, *, won: bool) -> None:
        dispute = self._disputes()[-1]["id"]
        self.standin.disputes.win(dispute) if won else self.standin.disputes.lose(dispute)

    def _disputes(self) -> list[dict[str, Any]]:
        intent = self.session["payment_intent"]
        return [each for each in self.standin.disputes.all() if each["payment_intent"] == intent]
