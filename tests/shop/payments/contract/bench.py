"""The provider's own side, which the shop can't see: its customers, staff, books and breakdowns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal

from _pytest.outcomes import Skipped
from django.conf import LazySettings

from shop.models import Payment


class Lacks(Skipped):
    """The provider has no such thing, so the situation can't come; the message says why.

    A test that comes to it is skipped.
    """


@dataclass(frozen=True)
class Post:
    """A message as the provider posts it."""

    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True)
class GivenBack:
    """A refund in the provider's books."""

    reference: str
    key: str
    amount: Decimal
    is_gone: bool
    """Whether the money has left us: not if the refund has failed."""


@dataclass(frozen=True)
class Books:
    """The money of one payment, from the provider's own books."""

    opened: int
    """How often the payment was opened; more than one could be paid twice."""
    charged: Decimal
    refunds: tuple[GivenBack, ...]
    disputed: Decimal
    """The money that the buyer's bank has taken."""

    @property
    def given_back(self) -> Decimal:
        return sum((each.amount for each in self.refunds if each.is_gone), Decimal(0))

    @property
    def kept(self) -> Decimal:
        return self.charged - self.given_back - self.disputed


class Bench(ABC):
    """One provider, new for each test. Payments are named by their rows, as the shop has them."""

    slug: str

    @abstractmethod
    def open(self, settings: LazySettings) -> None:
        """Begin with empty books, and let the shop's settings name this provider."""

    def close(self) -> None:  # noqa: B027
        """End what ``open`` has begun."""

    # The buyer at the provider

    @abstractmethod
    def approve(self, payment: Payment) -> None:
        """The buyer pays."""

    @abstractmethod
    def decline(self, payment: Payment) -> None:
        """The payment ends without money."""

    def approve_later(self, payment: Payment) -> None:
        """The buyer is done, and the money takes a while."""
        raise Lacks("all its money comes at once")

    def let_money_come(self, payment: Payment) -> None:
        """The money of ``approve_later`` is here."""
        raise Lacks("all its money comes at once")

    def let_money_fail(self, payment: Payment) -> None:
        """The money of ``approve_later`` never comes."""
        raise Lacks("money that the buyer has sent always comes")

    @abstractmethod
    def end_time(self, payment: Payment) -> None:
        """The time that the shop gave the payment is over."""

    @abstractmethod
    def can_be_paid(self, payment: Payment) -> bool:
        """Whether the buyer could still pay on the provider's page."""

    @abstractmethod
    def approve_after_decline(self, payment: Payment) -> None:
        """The provider corrects itself: a payment that it called declined was paid."""

    # Its staff and the buyer's bank

    @abstractmethod
    def refuse_payments(self) -> None:
        """Accept no payment from now on."""

    @abstractmethod
    def accept_payments(self) -> None:
        """Accept payments again."""

    @abstractmethod
    def refund(self, payment: Payment, amount: Decimal) -> None:
        """Somebody gives money back in the provider's dashboard."""

    @abstractmethod
    def fail_refund(self, payment: Payment) -> None:
        """The money of the latest refund comes back to us."""

    @abstractmethod
    def refuse_refunds(self, payment: Payment) -> None:
        """Give no money of this payment back for the shop."""

    def hold_refunds(self) -> None:
        """Accept refunds from now on, and carry them out later."""
        raise Lacks("it carries refunds out at once")

    def let_refund_through(self, payment: Payment) -> None:
        """Carry out the latest refund that waits."""
        raise Lacks("it carries refunds out at once")

    @abstractmethod
    def dispute(self, payment: Payment, amount: Decimal | None = None) -> None:
        """The buyer's bank takes the money back."""

    def inquire(self, payment: Payment) -> None:
        """The buyer's bank asks, and takes nothing yet."""
        raise Lacks("the buyer's bank never asks before it takes the money")

    @abstractmethod
    def decide(self, payment: Payment, *, won: bool) -> None:
        """The dispute is decided."""

    # Its messages

    @abstractmethod
    def message(self, payment: Payment, *, at: int | None = None) -> Post:
        """The newest message about the payment, signed ``at`` (seconds since 1970; now)."""

    @abstractmethod
    def old_message(self, payment: Payment) -> Post:
        """A message of the time before the payment's end, signed just now."""

    @abstractmethod
    def foreign_messages(self) -> list[Post]:
        """Genuine messages about payments of somebody else with the same account."""

    @abstractmethod
    def sign(self, body: bytes) -> Post:
        """Sign anything."""

    # Its breakdowns

    @contextmanager
    def down(self) -> Iterator[None]:
        """It can't be reached."""
        raise Lacks("it can't be down alone")
        yield

    @contextmanager
    def slow(self) -> Iterator[None]:
        """It does what it is asked, and answers after longer than a buyer waits."""
        raise Lacks("there is no network between it and the shop")
        yield

    @contextmanager
    def garbled(self) -> Iterator[None]:
        """A proxy answers in its place, without sense."""
        raise Lacks("there is no network between it and the shop")
        yield

    @contextmanager
    def losing_answers(self) -> Iterator[None]:
        """It does what it is asked to do, and its answers get lost."""
        raise Lacks("there is no network between it and the shop")
        yield

    def forget_keys(self) -> None:
        """A day is over: it no longer knows which requests are repetitions."""
        raise Lacks("it never forgets a key")

    # Its books

    @abstractmethod
    def books(self, payment: Payment) -> Books:
        """The money of the payment."""

    @abstractmethod
    def check_no_money_is_of_others(self) -> None:
        """Raise AssertionError if it has charged for payments that the shop doesn't know."""
