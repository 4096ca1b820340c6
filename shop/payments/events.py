"""Messages of payment providers: a reason to ask, never taken at their word."""

from __future__ import annotations

from django.http import HttpRequest

from shop import orders, payments
from shop.models import Order, Payment, PaymentEvent
from shop.payments.base import BadEvent


def receive(provider: str, request: HttpRequest) -> Order:
    """Act on a message that was posted to us, and return the order; once per message.

    It is remembered after the order is settled: if we die in between, the provider's next
    delivery settles it, and settling twice changes nothing.

    Raises BadEvent, LookupError for a provider that we don't have, ProviderUnavailable.
    """
    event = payments.read_event(provider, request)
    payment = Payment.objects.filter(provider=provider, key=event.payment_key).first()
    if payment is None:
        raise BadEvent("The message is about a payment that isn't ours.")
    if PaymentEvent.objects.filter(provider=provider, event_id=event.id).exists():
        return Order.objects.get(pk=payment.order_id)
    order = orders.settle(payment.order_id)
    PaymentEvent.objects.bulk_create(
        [PaymentEvent(provider=provider, event_id=event.id, payment=payment)],
        ignore_conflicts=True,
    )
    return order
