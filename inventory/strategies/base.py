"""The contract of a strategy: a way of taking units of a product for a buyer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import ClassVar

from django.db import IntegrityError

from inventory.database import atomic, connection
from inventory.exceptions import CannotJoinTransaction, DuplicateKey
from inventory.holds import Request
from inventory.locking import queue_buyer
from inventory.models import KEY_ONCE, STOCK_BACKSTOP, Reservation
from inventory.postgres_errors import constraint_name
from inventory.snapshots import check_buyer_limit, refusal

Pay = Callable[[], object]


def no_payment() -> None:
    """The payment that a web request leaves for later."""


class Strategy(ABC):
    """Takes ``request.quantity`` units and records the reservation in one atomic step.

    The README, the admin and the commands show these declarations.
    """

    slug: ClassVar[str]
    """Its name in settings, commands and the database."""
    label: ClassVar[str]
    """Its name for people."""
    is_safe: ClassVar[bool]
    """Whether it keeps the law, whatever other code runs beside it."""
    joins_transaction: ClassVar[bool] = True
    """Whether it may be called inside the caller's transaction."""
    how: ClassVar[str]
    """How it works, in two sentences."""
    when: ClassVar[str]
    """When to use it, in a sentence."""

    def take(self, request: Request, pay: Pay = no_payment) -> Reservation:
        """Take the units and return the reservation that holds them.

        An unsafe strategy calls ``pay`` between its check and its write, and waits for it. A safe
        one never calls it: its payment lies between the reservation and the confirmation.

        Raises InsufficientStock, NotForSale, BuyerLimitExceeded, DuplicateKey,
        TooMuchContention or CannotJoinTransaction; then nothing was changed.
        """
        if not self.joins_transaction and connection().in_atomic_block:
            raise CannotJoinTransaction(
                f"The strategy {self.slug} needs a transaction of its own. Call it outside "
                "transaction.atomic(), or choose another strategy."
            )
        with refusals_of_the_database(request):
            return self._attempt(request, pay)

    def _attempt(self, request: Request, pay: Pay) -> Reservation:
        """Take the units within the buyer's limit, in one transaction."""
        if request.max_per_buyer is None:
            return self._take(request, pay)
        if not self.is_safe:
            check_buyer_limit(request)
            return self._take(request, pay)
        with atomic():
            # Another request of this buyer waits here, so that it counts the units that we take.
            queue_buyer(request.product_id, request.buyer)
            check_buyer_limit(request)
            return self._take(request, pay)

    @abstractmethod
    def _take(self, request: Request, pay: Pay) -> Reservation:
        """Take the units, or raise ``refusal(request)``."""


@contextmanager
def refusals_of_the_database(request: Request) -> Iterator[None]:
    """Turn a violated constraint into the exception that tells the buyer what it means.

    Inside the caller's transaction, a savepoint keeps that transaction usable.
    """
    try:
        with atomic() if connection().in_atomic_block else nullcontext():
            yield
    except IntegrityError as error:
        constraint = constraint_name(error)
        if constraint == KEY_ONCE:
            raise DuplicateKey("There is a reservation with this key.") from error
        if constraint == STOCK_BACKSTOP:
            raise refusal(request) from error
        raise
