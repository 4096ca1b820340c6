"""Messages of payment providers. They make us ask the provider; we never rely on their words."""

from __future__ import annotations

from django.http import HttpRequest

from shop import orders, payments
from shop.models import Order, Payment, PaymentEvent
from shop.payments.base import BadEvent, Event


def receive(provider: str, request: HttpRequest) -> Order:
    """Act on a message that was posted to us, and return the order.

    We ask the provider at each delivery until the payment is paid: a message may come before the
    provider itself knows, and settling twice changes nothing. We record the message after that, so
    that nothing is lost if we crash in between.

    Raises BadEvent, LookupError for an unknown provider, ProviderUnavailable.
    """
    event = payments.read_event(provider, request)
    payment = Payment.objects.filter(provider=provider, key=event.payment_key).first()
    if payment is None:
        raise BadEvent("The message is about a payment that isn't ours.")
    if payment.state == Payment.State.PAID and _is_on_record(provider, event):
        return Order.objects.get(pk=payment.order_id)
    order = orders.settle(payment.order_id)
    PaymentEvent.objects.bulk_create(
        [PaymentEvent(provider=provider, event_id=event.id, payment=payment)],
        ignore_conflicts=True,
    )
    return order


def _is_on_record(provider: str, event: Event) -> bool:
    return PaymentEvent.objects.filter(provider=provider, event_id=event.id).exists()
