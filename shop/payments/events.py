"""Messages of payment providers. They make us ask the provider; we never rely on their words."""

from __future__ import annotations

import logging

from django.db import transaction
from django.db.models import F
from django.http import HttpRequest

from shop import orders, payments
from shop.models import Order, Payment, PaymentEvent
from shop.orders import statements
from shop.payments.base import Event

log = logging.getLogger(__name__)

LONGEST_OUTCOME = 300  # characters


def receive(provider: str, request: HttpRequest) -> Order | None:
    """Act on a message that was posted to us; return its order; None if we have none.

    We ask the provider at each delivery: a message may come before the provider itself knows, and
    asking twice changes nothing. We record the message after that, so that nothing is lost if we
    crash in between.

    Raises BadEvent, LookupError for an unknown provider, ProviderUnavailable.
    """
    event = payments.read_event(provider, request)
    ours = Payment.objects.filter(provider=provider)
    payment = ours.filter(key=event.payment_key).first() if event.payment_key else None
    if payment is None:
        # Another shop may use the same account. An error would make the provider try for days.
        log.info("A message of %s is about no payment of this shop: %s", provider, event.id)
        return None
    order = orders.settle(payment.order_id)
    news = statements.look_into(payment.pk)
    payment.refresh_from_db()
    _record(provider, event, payment, news)
    return order


@transaction.atomic
def _record(provider: str, event: Event, payment: Payment, news: list[str]) -> None:
    """Put the message on record, and count its deliveries.

    A delivery that finds nothing new leaves the outcome as an earlier one found it.
    """
    state = f"The payment is {payment.get_state_display()}."
    message = PaymentEvent(
        provider=provider, event_id=event.id, payment=payment, kind=event.kind, deliveries=0
    )
    # Another delivery of it may be here at this moment.
    PaymentEvent.objects.bulk_create([message], ignore_conflicts=True)
    found = PaymentEvent.objects.filter(provider=provider, event_id=event.id)
    found.update(deliveries=F("deliveries") + 1)
    changed = found if news else found.exclude(outcome__startswith=state)
    changed.update(outcome=" ".join([state, *news])[:LONGEST_OUTCOME])
