"""A payment whose refunds never come to more than was captured."""

from decimal import Decimal

from django.db import transaction

from .models import Payment


class RefundedInTurn(Payment):
    class Meta:
        proxy = True

    def refund(self, amount: Decimal | None = None) -> None:
        """Refund, after the refunds of this payment that began earlier, by what they left."""
        with transaction.atomic():
            now = Payment.objects.select_for_update(no_key=True).get(pk=self.pk)
            self.status, self.captured_amount = now.status, now.captured_amount
            super().refund(amount)
