"""A provider whose books are in this process, so that a restored database leaves them alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from django.http import HttpRequest
from django.utils import timezone

from shop.models import Payment, Refund
from shop.payments.base import (
    BadEvent,
    DisputeRecord,
    DisputeStatus,
    Event,
    ListedPayment,
    Outcome,
    Provider,
    ProviderUnavailable,
    RefundDeclined,
    RefundRecord,
    RefundStatus,
    Started,
    Statement,
)

_numbers = itertools.count(1)


@dataclass
class Charge:
    """The bank's record of a payment."""

    key: UUID
    reference: str
    amount: Decimal
    currency: str
    copy: str
    outcome: Outcome = Outcome.OPEN
    started_at: datetime = field(default_factory=timezone.now)
    refunds: list[RefundRecord] = field(default_factory=list)
    disputes: list[DisputeRecord] = field(default_factory=list)
    problem: str = ""
    """Why its statement can't be read."""

    @property
    def given_back(self) -> Decimal:
        going = [each for each in self.refunds if each.status is not RefundStatus.FAILED]
        return sum((each.amount for each in going), Decimal(0))

    @property
    def kept(self) -> Decimal:
        """The shop's money of it, which a dispute may make less than nothing."""
        taken = {DisputeStatus.OPEN, DisputeStatus.LOST}
        disputed = sum((x.amount for x in self.disputes if x.status in taken), Decimal(0))
        charged = self.amount if self.outcome is Outcome.PAID else Decimal(0)
        return charged - self.given_back - disputed

    @property
    def is_open(self) -> bool:
        return self.outcome is Outcome.OPEN

    @property
    def is_disputed(self) -> bool:
        """Whether a dispute is undecided."""
        return bool(self.disputes) and self.disputes[-1].status is DisputeStatus.OPEN

    @property
    def number_of_refunds(self) -> int:
        return len(self.refunds)

    # Deeds at the bank

    def pay(self) -> None:
        self.outcome = Outcome.PAID

    def decline(self) -> None:
        self.outcome = Outcome.DECLINED

    def give_back(self, amount: Decimal) -> None:
        """Give money back in the dashboard."""
        self._record(amount, RefundStatus.DONE)

    def let_fail(self, number: int = -1) -> None:
        """Let a refund fail that was given back."""
        self.refunds[number] = replace(
            self.refunds[number], status=RefundStatus.FAILED, problem="The card is closed."
        )

    def dispute(self, amount: Decimal) -> None:
        self.disputes.append(
            DisputeRecord(f"dp_{next(_numbers)}", amount, DisputeStatus.OPEN, timezone.now())
        )

    def decide(self, *, won: bool) -> None:
        status = DisputeStatus.WON if won else DisputeStatus.LOST
        self.disputes[-1] = replace(self.disputes[-1], status=status)

    def _record(self, amount: Decimal, status: RefundStatus, refund: Refund | None = None) -> None:
        of_shop = (
            {"key": refund.key, "attempt": refund.attempt, "copy": refund.copy} if refund else {}
        )
        reference = f"re_{next(_numbers)}"
        self.refunds.append(
            RefundRecord(reference, amount, status, timezone.now(), **of_shop)  # type: ignore[arg-type]
        )


class MemoryBank(Provider):
    slug = "memory"
    label = "Memory bank"

    charges: dict[UUID, Charge] = {}
    is_down = False
    is_another_account = False
    """Whether it doesn't know the payments that it hasn't in its books, as Stripe does."""
    refunds_as = RefundStatus.DONE

    def start(self, payment: Payment) -> Started:
        number = next(_numbers)
        charge = self.charges.setdefault(
            payment.key,
            Charge(payment.key, f"ch_{number}", payment.amount, payment.currency, payment.copy),
        )
        return Started(charge.reference, f"https://bank.example.com/{charge.reference}")

    def status(self, payment: Payment) -> Outcome:
        self._answer()
        charge = self.charges.get(payment.key)
        return charge.outcome if charge else Outcome.OPEN

    def refund(self, refund: Refund) -> RefundStatus:
        self._answer()
        charge = self.charges[refund.payment.key]
        for made in charge.refunds:
            if made.key == refund.key and made.status is not RefundStatus.FAILED:
                return made.status
        if charge.given_back + refund.amount > charge.amount:
            raise RefundDeclined("That is more than is left.")
        charge._record(refund.amount, self.refunds_as, refund)
        return self.refunds_as

    def statement(self, payment: Payment) -> Statement:
        self._answer()
        charge = self.charges.get(payment.key)
        if charge is None and self.is_another_account:
            raise ProviderUnavailable(f"No such payment: '{payment.reference}'")
        return _statement(charge) if charge else Statement(Outcome.OPEN)

    def list_since(self, moment: datetime) -> Iterator[ListedPayment]:
        self._answer()
        for charge in self.charges.values():
            moments = [
                charge.started_at,
                *[each.made_at for each in charge.refunds],
                *[each.opened_at for each in charge.disputes],
            ]
            if max(moments) >= moment:
                yield ListedPayment(
                    charge.key,
                    charge.reference,
                    charge.amount,
                    charge.currency,
                    charge.started_at,
                    _statement(charge),
                    charge.copy,
                    charge.problem,
                )

    def read_event(self, request: HttpRequest) -> Event:
        raise BadEvent("This bank sends no messages.")

    def _answer(self) -> None:
        if self.is_down:
            raise ProviderUnavailable("The memory bank is down.")


def _statement(charge: Charge) -> Statement:
    page = f"https://bank.example.com/dashboard/{charge.reference}"
    return Statement(charge.outcome, tuple(charge.refunds), tuple(charge.disputes), page=page)
