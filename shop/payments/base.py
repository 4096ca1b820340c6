"""The contract of a payment provider: whoever takes the buyers' money.

The provider is the source of truth. What it is asked may be asked any number of times, and what
it is told has a key that makes a repetition the same.

Call providers through ``shop.payments`` only: it sees to it that no transaction, and so no lock,
is open while one is waited for.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar
from uuid import UUID

from django.http import HttpRequest

from shop.exceptions import ShopError
from shop.models import Payment, Refund

LONGEST_ID = 200  # characters of a message's id


class Outcome(enum.Enum):
    """What has become of a payment."""

    OPEN = "open"
    """The buyer hasn't decided, or the provider doesn't know yet."""
    PAID = "paid"
    """The money is ours."""
    DECLINED = "declined"
    """Refused, given up or out of time."""


@dataclass(frozen=True)
class Started:
    """A payment that waits for the buyer."""

    reference: str
    """The provider's own name of it."""
    url: str
    """Where to send the buyer."""


@dataclass(frozen=True)
class Event:
    """A provider's message that something has happened to a payment: a reason to ask."""

    id: str
    """The same in every delivery of the same message; raises BadEvent if it can't be kept."""
    payment_key: UUID
    """``Payment.key``."""

    def __post_init__(self) -> None:
        if not 0 < len(self.id) <= LONGEST_ID or not self.id.isprintable():
            raise BadEvent(f"The message's id must have 1 to {LONGEST_ID} printable characters.")


class ProviderUnavailable(ShopError):
    """The provider can't be reached, or gave no answer that makes sense. Try again later."""


class RefundRefused(ShopError):
    """The provider won't give the money back; says why. Somebody must look at it."""


class BadEvent(ShopError):
    """The message isn't the provider's, or is too old."""


class Provider(ABC):
    """Takes money for orders and gives it back."""

    slug: ClassVar[str]
    """Its name in addresses and in the database; never changes."""
    label: ClassVar[str]
    """Its name for people."""
    origin: ClassVar[str] = ""
    """Where its own pages are, such as ``https://pay.example.com``: our forms may lead there.

    Empty: on this shop's own site.
    """

    @abstractmethod
    def start(self, payment: Payment) -> Started:
        """Open the payment and say where the buyer goes to approve it.

        A repetition with the same ``payment.key`` returns the same. The buyer is sent back to
        ``payment.return_url``. Nothing may be charged after ``payment.expires_at``.

        Raises ProviderUnavailable.
        """

    @abstractmethod
    def status(self, payment: Payment) -> Outcome:
        """Say what has become of the payment; OPEN where ``start`` hasn't reached the provider.

        Once ``payment.expires_at`` is over, it is PAID or DECLINED before long.

        Raises ProviderUnavailable.
        """

    @abstractmethod
    def refund(self, refund: Refund) -> None:
        """Give ``refund.amount`` of ``refund.payment`` back; once for ``refund.key``.

        Raises RefundRefused where trying again is no use, ProviderUnavailable.
        """

    @abstractmethod
    def read_event(self, request: HttpRequest) -> Event:
        """Read a message that was posted to us; it must be signed by the provider, and recent.

        Raises BadEvent.
        """
