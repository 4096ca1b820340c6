"""Two colleagues each refund 60 of one payment of 100: one of them must be refused."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from django.db.models import Sum
from payments import PaymentStatus

from ...race import Ended, Race
from .mend import RefundedInTurn
from .models import BankTransfer, Payment


def hundred_paid() -> None:
    Payment.objects.all().delete()
    Payment.objects.create(
        pk=1,
        variant="default",
        status=PaymentStatus.CONFIRMED,
        currency="EUR",
        total=100,
        captured_amount=100,
        token="1",
    )


def refund_sixty(payment: type[Payment]) -> Callable[[], object]:
    return lambda: payment.objects.get(pk=1).refund(Decimal(60))


def paid_back() -> Decimal:
    return BankTransfer.objects.aggregate(sum=Sum("amount"))["sum"] or Decimal(0)


def one_refund_is_paid(ended: Ended) -> bool:
    return paid_back() == 60


def sums_in_words() -> str:
    payment = Payment.objects.get()
    return f"{payment.total} paid, {payment.captured_amount} left, {paid_back()} paid back"


RACES = [
    Race(
        name="refund",
        title="Two refunds of 60 are paid out of 100.",
        setup=hundred_paid,
        sessions={"Ann": refund_sixty(Payment), "Bob": refund_sixty(Payment)},
        invariant=one_refund_is_paid,
        describe=sums_in_words,
        mended={"Ann": refund_sixty(RefundedInTurn), "Bob": refund_sixty(RefundedInTurn)},
        mend=(
            "Lock the payment's row, and look at it again, before the bank is asked. The package "
            "could do so in refund(), capture() and release(). To hold no lock while the bank "
            "works, it could take the amount off first, by an UPDATE that does nothing where less "
            "is left, and give it back if the bank refuses."
        ),
    )
]
