"""Payment providers: one contract (``base.Provider``), this registry, and the one door to them.

The setting PAYMENT_PROVIDER says who takes new payments, FORMER_PAYMENT_PROVIDERS who did
before: a name below, or the dotted path of a class.
"""

from __future__ import annotations

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.http import HttpRequest
from django.utils.module_loading import import_string

from shop.models import Payment, Refund
from shop.payments.base import (
    BadEvent,
    Event,
    Outcome,
    Provider,
    ProviderUnavailable,
    RefundRefused,
    Started,
)

__all__ = [
    "BadEvent",
    "Event",
    "Outcome",
    "Provider",
    "ProviderUnavailable",
    "RefundRefused",
    "Started",
    "current",
    "get",
    "known",
    "read_event",
    "refund",
    "start",
    "status",
]

BUILT_IN = {"demo": "shop.payments.demo.DemoBank"}


def current() -> Provider:
    """Who takes new payments. Raises ImproperlyConfigured if the setting names nobody."""
    return _load(settings.PAYMENT_PROVIDER)


def get(slug: str) -> Provider:
    """Return the provider of that name, of those that the settings know. Raises LookupError."""
    for name in (settings.PAYMENT_PROVIDER, *settings.FORMER_PAYMENT_PROVIDERS):
        provider = _load(name)
        if provider.slug == slug:
            return provider
    raise LookupError(f"There is no payment provider “{slug}” in the settings.")


def known() -> list[str]:
    """The slugs of all providers that the settings know."""
    names = (settings.PAYMENT_PROVIDER, *settings.FORMER_PAYMENT_PROVIDERS)
    return [_load(name).slug for name in names]


def start(payment: Payment) -> Started:
    """See ``Provider.start``."""
    return _reach(payment.provider).start(payment)


def status(payment: Payment) -> Outcome:
    """See ``Provider.status``."""
    return _reach(payment.provider).status(payment)


def refund(refund: Refund) -> None:
    """See ``Provider.refund``."""
    _reach(refund.payment.provider).refund(refund)


def read_event(slug: str, request: HttpRequest) -> Event:
    """See ``Provider.read_event``. Raises LookupError for a provider that we don't have."""
    return _reach(slug).read_event(request)


def _reach(slug: str) -> Provider:
    """Return the provider, about to be called; raise RuntimeError inside a transaction.

    Every call passes here: nobody ever waits for a provider with a lock in hand.
    """
    # Django's own test of it: the transaction that wraps a TestCase doesn't count.
    with transaction.atomic(durable=True):
        pass
    return get(slug)


def _load(name: str) -> Provider:
    try:
        provider: Provider = import_string(BUILT_IN.get(name, name))()
    except ImportError as error:
        raise ImproperlyConfigured(
            f"PAYMENT_PROVIDER: there is no “{name}”. It must be one of {', '.join(BUILT_IN)}, or "
            f"the dotted path of a class that fulfils shop.payments.base.Provider ({error})."
        ) from error
    return provider
