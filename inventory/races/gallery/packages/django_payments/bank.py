from decimal import Decimal

from payments.dummy import DummyProvider
from payments.models import BasePayment


class Bank(DummyProvider):
    """A provider that pays back whatever it is asked for, and remembers it."""

    def refund(self, payment: BasePayment, amount: Decimal | None = None) -> Decimal:
        from .models import BankTransfer

        sum_ = payment.captured_amount if amount is None else amount
        BankTransfer.objects.create(payment_id=payment.pk, amount=sum_)
        return sum_
