"""An invoice that is open may be paid or cancelled, once."""

from __future__ import annotations

from collections.abc import Callable

from django.db import transaction

from ...race import Ended, Race
from .models import GuardedInvoice, Invoice, Payment

Change = Callable[[], object]


def open_invoice() -> None:
    Payment.objects.all().delete()
    for model in (Invoice, GuardedInvoice):
        model.objects.all().delete()
        model.objects.create(pk=1)


def state_in_words() -> str:
    states = {model.objects.get(pk=1).state for model in (Invoice, GuardedInvoice)} - {"open"}
    return f"invoice {' and '.join(states) or 'open'}, payments: {Payment.objects.count()}"


def change(name: str, model: type[Invoice | GuardedInvoice]) -> Change:
    """A function that does the transition of that name, and saves the invoice."""

    def change_state() -> str:
        with transaction.atomic():
            invoice = model.objects.get(pk=1)
            getattr(invoice, name)()
            invoice.save()
        return invoice.state

    return change_state


def it_is_paid_once(ended: Ended) -> None:
    payments = Payment.objects.count()
    assert payments == 1, f"The invoice was paid {payments} times."


def only_one_gets_through(ended: Ended) -> None:
    """The other is told that its transition isn't allowed any more."""
    assert len(ended.returned) == 1, f"Both went through: {' and '.join(ended.returned.values())}."


MEND = (
    "The package's own guard: ConcurrentTransitionMixin saves an invoice only if its state is "
    "still the one that was read. The transition and save() must be in one atomic(), so that the "
    "payment is rolled back with them. The late one gets another exception than in a serial order: "
    "so nothing is wrong where a schedule ends like none of these. Or select_for_update(), before "
    "the state is looked at."
)
KNOWN = "It is documented, with that mixin, which each model must choose."

RACES = [
    Race(
        name="pay_twice",
        title="An invoice is paid twice.",
        setup=open_invoice,
        sessions={"Ann": change("pay", Invoice), "Bob": change("pay", Invoice)},
        invariant=it_is_paid_once,
        describe=state_in_words,
        mended={"Ann": change("pay", GuardedInvoice), "Bob": change("pay", GuardedInvoice)},
        mend=MEND,
        known=KNOWN,
    ),
    Race(
        name="pay_and_cancel",
        title="An invoice is paid and cancelled, and both are told that it went well.",
        setup=open_invoice,
        sessions={"Ann": change("pay", Invoice), "Bob": change("cancel", Invoice)},
        invariant=only_one_gets_through,
        describe=state_in_words,
        mended={"Ann": change("pay", GuardedInvoice), "Bob": change("cancel", GuardedInvoice)},
        mend=MEND,
        known=KNOWN,
    ),
]
