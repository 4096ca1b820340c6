from django.db import models
from django_fsm import ConcurrentTransitionMixin, FSMField, transition


class Payment(models.Model):
    """A charge on the customer's card."""

    invoice = models.IntegerField()

    class Meta:
        db_table = "payment"


class AnyInvoice(models.Model):
    state = FSMField(default="open", protected=True)

    class Meta:
        abstract = True

    @transition(field=state, source="open", target="paid")
    def pay(self):
        Payment.objects.create(invoice=self.pk)

    @transition(field=state, source="open", target="cancelled")
    def cancel(self):
        pass


class Invoice(AnyInvoice):
    class Meta:
        db_table = "invoice"


class GuardedInvoice(ConcurrentTransitionMixin, AnyInvoice):
    """Saved only if its state is still the one that was read: the package's own guard."""

    class Meta:
        db_table = "guarded_invoice"
