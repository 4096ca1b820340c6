"""The contract of a payment provider, which takes the buyers' money.

The provider is the source of truth. We may ask it anything any number of times. Each order that we
give it has a key, so that a repetition does nothing more.

Call providers through ``shop.payments`` only: it makes sure that no transaction is open, and so no
lock is taken, while we wait for one.
"""

from __future__ import annotations

import enum
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import ClassVar
from uuid import UUID

from django.http import HttpRequest

from shop.exceptions import ShopError
from shop.models import Payment, Refund

LONGEST_ID = 200  # characters of a message's id
LONGEST_KIND = 100  # characters that we keep of its kind
LONGEST_WAIT = 60.0  # seconds, where nobody waits for the answer

_deadline: ContextVar[float] = ContextVar("deadline")


@contextmanager
def answer_within(seconds: float) -> Iterator[None]:
    """Give all calls of providers in this block so many seconds together: somebody waits."""
    token = _deadline.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _deadline.reset(token)


def somebody_waits() -> bool:
    """Whether this is inside of ``answer_within``."""
    return _deadline.get(None) is not None


def time_left() -> float:
    """The seconds, 0 or more, that a provider may still take to answer."""
    try:
        return max(0.0, _deadline.get() - time.monotonic())
    except LookupError:
        return LONGEST_WAIT


class Outcome(enum.Enum):
    """The outcome of a payment, as far as the provider knows it."""

    OPEN = "open"
    """The buyer hasn't decided, or the provider doesn't know yet."""
    PAID = "paid"
    """The money is ours."""
    DECLINED = "declined"
    """No money was taken: the bank said no, the buyer gave up, or the time is over."""


@dataclass(frozen=True)
class Started:
    """A payment that waits for the buyer."""

    reference: str
    """The provider's own name for it."""
    url: str
    """The address to send the buyer to."""


class RefundStatus(enum.Enum):
    """How far the provider is with a refund."""

    PENDING = "pending"
    """The provider has accepted it, and doesn't know yet whether the buyer gets the money."""
    DONE = "done"
    """The money is on its way to the buyer. It may still come back: then the refund is FAILED."""
    FAILED = "failed"
    """The buyer doesn't get the money: it is ours again."""


@dataclass(frozen=True)
class RefundRecord:
    """A refund as the provider has it on record, whoever asked for it."""

    reference: str
    """The provider's own name for it."""
    amount: Decimal
    """In the payment's currency."""
    status: RefundStatus
    made_at: datetime
    key: str = ""
    """``Refund.key``. Empty if it was made at the provider, such as in its dashboard."""
    attempt: int = 0
    """``Refund.attempt``, if it has our key."""
    copy: str = ""
    """``Refund.copy``, if it has our key and the provider could keep it."""
    problem: str = ""
    """Why it failed, in words for staff."""


class DisputeStatus(enum.Enum):
    """How far a dispute is. It goes from top to bottom here, and never back."""

    INQUIRY = "inquiry"
    """The buyer's bank asks. No money was taken."""
    OPEN = "open"
    """The buyer's bank has taken the money back until the dispute is decided."""
    WON = "won"
    """Decided for us: the money is ours, or never went."""
    LOST = "lost"
    """Decided for the buyer: the money stays taken."""


@dataclass(frozen=True)
class DisputeRecord:
    """A dispute (chargeback) as the provider has it on record."""

    reference: str
    """The provider's own name for it."""
    amount: Decimal
    """In the payment's currency."""
    status: DisputeStatus
    opened_at: datetime
    reason: str = ""
    """The buyer's reason, in the provider's words."""


@dataclass(frozen=True)
class Statement:
    """All that the provider has on record of one payment."""

    outcome: Outcome
    refunds: tuple[RefundRecord, ...] = ()
    """In the order in which they were made."""
    disputes: tuple[DisputeRecord, ...] = ()
    fee: Decimal | None = None
    """The provider's price for the payment, if it tells."""
    fee_currency: str = ""
    page: str = ""
    """The address of the payment in the provider's dashboard, for staff; empty if unknown."""


@dataclass(frozen=True)
class ListedPayment:
    """A payment that the provider has on record for this shop, whether or not the shop knows it."""

    key: UUID
    """``Payment.key``."""
    reference: str
    amount: Decimal
    currency: str
    started_at: datetime
    statement: Statement
    copy: str = ""
    """``Payment.copy``, if the provider could keep it."""
    problem: str = ""
    """Why its statement can't be read, if it can't. Such a payment keeps none of the others."""


@dataclass(frozen=True)
class Event:
    """A provider's message that something has happened to a payment: a reason to ask."""

    id: str
    """The same in every delivery of the message. An id that we can't store raises BadEvent."""
    payment_key: UUID | None
    """``Payment.key``. None: the message is genuine, and about no payment of this shop."""
    kind: str = ""
    """The provider's name for what has happened, for staff. Only as much is kept as we can store:
    an odd name is no reason to reject the message."""

    def __post_init__(self) -> None:
        if not 0 < len(self.id) <= LONGEST_ID or not self.id.isprintable():
            raise BadEvent(f"The message's id must have 1 to {LONGEST_ID} printable characters.")
        kind = self.kind if isinstance(self.kind, str) else ""
        storable = "".join(character for character in kind if character.isprintable())
        object.__setattr__(self, "kind", storable[:LONGEST_KIND])  # the instance is frozen


class ProviderUnavailable(ShopError):
    """The provider can't be reached, or its answer makes no sense. Try again later."""


class ProviderMisconfigured(ProviderUnavailable):
    """The provider can't be asked until a person has done what the message says."""


class StartDeclined(ShopError):
    """The provider won't open the payment, however often it is asked; the message says why."""


class RefundDeclined(ShopError):
    """The provider won't give the money back; the message says why. A person must look at it."""


class BadEvent(ShopError):
    """The message is too old, or isn't from the provider."""


class Provider(ABC):
    """Takes money for orders and gives it back."""

    slug: ClassVar[str]
    """Its name in addresses and in the database; never changes."""
    label: ClassVar[str]
    """Its name for people."""
    origin: str = ""
    """The site of its own pages, such as ``https://pay.example.com``: our forms may lead there.

    Empty if its pages are on this shop's own site.
    """

    secret_setting: ClassVar[str] = ""
    """The setting that has the secret of its messages, for staff who look for a fault."""

    @abstractmethod
    def start(self, payment: Payment) -> Started:
        """Open the payment, and return the address where the buyer approves it.

        A repetition with the same ``payment.key`` returns the same. Take everything from the
        payment's row, whose fields don't change: an order may be corrected in between. The buyer
        is sent back to ``payment.return_url``. The provider keeps ``payment.copy`` for us, and
        returns it in ``list_since``.

        Raises StartDeclined if another attempt would be useless, ProviderUnavailable.
        """

    @abstractmethod
    def status(self, payment: Payment) -> Outcome:
        """Return the payment's outcome; OPEN if ``start`` hasn't reached the provider.

        After ``payment.expires_at`` it must be PAID or DECLINED: end a payment that is still open
        there before you answer. Money that arrives all the same is noticed when we ask again.

        Raises ProviderUnavailable.
        """

    @abstractmethod
    def refund(self, refund: Refund) -> RefundStatus:
        """Give ``refund.amount`` of ``refund.payment`` back once for each ``refund.key``.

        Return PENDING or DONE. A refund of this key that the provider has on record, and that
        hasn't failed there, is the answer: nothing more is given back. One that was declined or
        has failed there counts as declined if it is of this ``refund.attempt``, and else as never
        made. (A request may arrive late, when staff have given the money back another way.) The
        provider keeps ``refund.copy`` for us, and returns it in the statement.

        Raises RefundDeclined if another attempt would be useless, or if the refund of this key is
        of another amount. Raises ProviderUnavailable.
        """

    @abstractmethod
    def statement(self, payment: Payment) -> Statement:
        """Return all that is on record of the payment, refunds made at the provider included.

        Raises ProviderUnavailable.
        """

    @abstractmethod
    def list_since(self, moment: datetime) -> Iterator[ListedPayment]:
        """All payments of this shop that were started, refunded or disputed since ``moment``.

        The oldest first, each once. Leave out those of others who use the same account. List a
        payment with its ``problem`` if only its own statement can't be read.

        Raises ProviderUnavailable.
        """

    @abstractmethod
    def read_event(self, request: HttpRequest) -> Event:
        """Read a message that was posted to us. It must be recent, and signed by the provider.

        Raises BadEvent. Raises ProviderUnavailable if the provider must be asked which payment the
        message is about.
        """
