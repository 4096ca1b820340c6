from django.db import models
from payments.models import BasePayment


class Payment(BasePayment):
    """As the package's documentation shows it."""

    class Meta:
        db_table = "payment"


class BankTransfer(models.Model):
    """Money that the bank has paid back. It stands in for the bank."""

    payment = models.ForeignKey(Payment, on_delete=models.CASCADE)
    amount = models.DecimalField(max_digits=9, decimal_places=2)

    class Meta:
        db_table = "bank_transfer"

    def __str__(self) -> str:
        return f"{self.amount} of payment {self.payment_id}"
