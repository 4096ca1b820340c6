"""The contract of a payment provider, which takes the buyers' money.

The provider is the source of truth. We may ask it anything any number of times. Each order that we
give it has a key, so that a repetition does nothing more.

Call providers through ``shop.payments`` only: it makes sure that no transaction is open, and so no
lock is taken, while we wait for one.
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


@dataclass(frozen=True)
class Event:
    """A provider's message that something has happened to a payment: a reason to ask."""

    id: str
    """The same in every delivery of the message. An id that we can't store raises BadEvent."""
    payment_key: UUID
    """``Payment.key``."""

    def __post_init__(self) -> None:
        if not 0 < len(self.id) <= LONGEST_ID or not self.id.isprintable():
            raise BadEvent(f"The message's id must have 1 to {LONGEST_ID} printable characters.")


class ProviderUnavailable(ShopError):
    """The provider can't be reached, or its answer makes no sense. Try again later."""


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
    origin: ClassVar[str] = ""
    """The site of its own pages, such as ``https://pay.example.com``: our forms may lead there.

    Empty if its pages are on this shop's own site.
    """

    @abstractmethod
    def start(self, payment: Payment) -> Started:
        """Open the payment, and return the address where the buyer approves it.

        A repetition with the same ``payment.key`` returns the same. The buyer is sent back to
        ``payment.return_url``. Nothing may be charged after ``payment.expires_at``.

        Raises ProviderUnavailable.
        """

    @abstractmethod
    def status(self, payment: Payment) -> Outcome:
        """Return the payment's outcome; OPEN if ``start`` hasn't reached the provider.

        Soon after ``payment.expires_at`` it must be PAID or DECLINED.

        Raises ProviderUnavailable.
        """

    @abstractmethod
    def refund(self, refund: Refund) -> None:
        """Give ``refund.amount`` of ``refund.payment`` back, once for each ``refund.key``.

        Raises RefundDeclined if another attempt would be useless, ProviderUnavailable.
        """

    @abstractmethod
    def read_event(self, request: HttpRequest) -> Event:
        """Read a message that was posted to us. It must be recent, and signed by the provider.

        Raises BadEvent.
        """
