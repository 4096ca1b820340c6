"""Payment providers: their contract (``base.Provider``), this registry, and the way to call them.

The setting PAYMENT_PROVIDER names the provider of new payments, FORMER_PAYMENT_PROVIDERS those of
older payments: by a name in BUILT_IN, or by the dotted path of a class.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.http import HttpRequest
from django.utils.module_loading import import_string

from shop.models import Payment, Refund
from shop.payments import silence
from shop.payments.base import (
    BadEvent,
    Event,
    ListedPayment,
    Outcome,
    Provider,
    ProviderMisconfigured,
    ProviderUnavailable,
    RefundDeclined,
    RefundStatus,
    StartDeclined,
    Started,
    Statement,
    answer_within,
    time_left,
)

__all__ = [
    "BadEvent",
    "Event",
    "ListedPayment",
    "Outcome",
    "Provider",
    "ProviderMisconfigured",
    "ProviderUnavailable",
    "RefundDeclined",
    "RefundStatus",
    "StartDeclined",
    "Started",
    "Statement",
    "answer_within",
    "check_settings",
    "current_provider",
    "get_provider",
    "known_slugs",
    "list_since",
    "origins",
    "read_event",
    "refund",
    "start",
    "statement",
    "status",
    "time_left",
]

SLUG = re.compile(r"[A-Za-z0-9_-]{1,200}")
BUILT_IN = {
    "demo": "shop.payments.demo.DemoBank",
    "stripe": "shop.payments.stripe.StripeCheckout",
}


def current_provider() -> Provider:
    """The provider of new payments. Raises ImproperlyConfigured if the setting names none."""
    return _load(settings.PAYMENT_PROVIDER)


def get_provider(slug: str) -> Provider:
    """Return the provider of that slug, if the settings name it. Raises LookupError."""
    for provider in _providers():
        if provider.slug == slug:
            return provider
    raise LookupError(f"There is no payment provider “{slug}” in the settings.")


def known_slugs() -> list[str]:
    """The slugs of all providers that the settings name."""
    return [provider.slug for provider in _providers()]


def origins() -> list[str]:
    """The sites of all providers' pages: a buyer may still pay at a former provider."""
    return sorted({provider.origin for provider in _providers() if provider.origin})


def start(payment: Payment) -> Started:
    """See ``Provider.start``."""
    provider = _provider_of(payment)
    with silence.noticed(provider.slug):
        return provider.start(payment)


def status(payment: Payment) -> Outcome:
    """See ``Provider.status``."""
    provider = _provider_of(payment)
    with silence.noticed(provider.slug):
        return provider.status(payment)


def refund(refund: Refund) -> RefundStatus:
    """See ``Provider.refund``."""
    provider = _provider_of(refund.payment)
    with silence.noticed(provider.slug):
        return provider.refund(refund)


def statement(payment: Payment) -> Statement:
    """See ``Provider.statement``."""
    provider = _provider_of(payment)
    with silence.noticed(provider.slug):
        return provider.statement(payment)


def list_since(slug: str, moment: datetime) -> Iterator[ListedPayment]:
    """See ``Provider.list_since``. Raises LookupError for an unknown provider."""
    _forbid_transaction()
    return get_provider(slug).list_since(moment)


def read_event(slug: str, request: HttpRequest) -> Event:
    """See ``Provider.read_event``. Raises LookupError for an unknown provider."""
    _forbid_transaction()
    event = get_provider(slug).read_event(request)
    silence.end(slug)
    return event


def _provider_of(payment: Payment) -> Provider:
    """Return the payment's provider, for a call right now. Raises ProviderMisconfigured.

    A provider that the settings don't name any more can't be reached either: no other provider
    knows how its payments ended.
    """
    _forbid_transaction()
    try:
        return get_provider(payment.provider)
    except LookupError as error:
        raise ProviderMisconfigured(
            f"{error} Name its class in FORMER_PAYMENT_PROVIDERS, so that it can be asked."
        ) from error


def _forbid_transaction() -> None:
    """Raise RuntimeError inside a transaction: its locks would wait for the provider."""
    if transaction.get_connection().in_atomic_block:
        # Django's own check, which ignores the transaction round a TestCase.
        with transaction.atomic(durable=True):
            pass


def _providers() -> list[Provider]:
    """All providers, once each, the current one first. ``check`` names those that fail to load."""
    current = current_provider()
    providers = {current.slug: current}
    for name in settings.FORMER_PAYMENT_PROVIDERS:
        with suppress(ImproperlyConfigured):
            provider = _load(name)
            providers.setdefault(provider.slug, provider)
    return list(providers.values())


def check_settings() -> None:
    """Raise ImproperlyConfigured if a provider can't be loaded, or two have the same slug."""
    classes: dict[str, type[Provider]] = {}
    for name in (settings.PAYMENT_PROVIDER, *settings.FORMER_PAYMENT_PROVIDERS):
        cls = type(_load(name))
        other = classes.setdefault(cls.slug, cls)
        if other is not cls:
            raise ImproperlyConfigured(
                f"{_setting(name)}: {_path(other)} and {_path(cls)} have the same slug, "
                f"“{cls.slug}”. Each provider needs one of its own: payments are known by it."
            )


def _load(name: str) -> Provider:
    """Return a new instance of that provider. Raises ImproperlyConfigured."""
    try:
        return _new(BUILT_IN.get(name, name))
    except ImproperlyConfigured as problem:
        raise ImproperlyConfigured(f"{_setting(name)}: {problem}") from problem


def _new(path: str) -> Provider:
    """Return a new instance of the class at that path. Raises ImproperlyConfigured."""
    try:
        cls = import_string(path)
    except ImportError as error:
        raise ImproperlyConfigured(
            f"there is no “{path}”. It must be one of {', '.join(BUILT_IN)}, or the dotted path of "
            f"a subclass of shop.payments.Provider ({error})."
        ) from error
    except Exception as error:  # a module may raise anything
        raise ImproperlyConfigured(f"“{path}” can't be imported ({_in_a_line(error)}).") from error
    if not (inspect.isclass(cls) and issubclass(cls, Provider)):
        raise ImproperlyConfigured(f"“{path}” is no subclass of shop.payments.Provider.")
    if missing := sorted(cls.__abstractmethods__):
        raise ImproperlyConfigured(f"“{path}” is abstract. It must define {', '.join(missing)}.")
    for declaration in ("slug", "label"):
        text = getattr(cls, declaration, None)
        if not isinstance(text, str) or not text.strip():
            raise ImproperlyConfigured(f"“{path}” must declare {declaration}, a text.")
    if not SLUG.fullmatch(cls.slug):
        raise ImproperlyConfigured(
            f"“{path}” has the slug “{cls.slug}”. It must be up to 200 ASCII letters, digits, "
            "hyphens and underscores: it is part of an address."
        )
    try:
        return cls()
    except Exception as error:
        raise ImproperlyConfigured(
            f"“{path}” can't be made ({_in_a_line(error)}). Its __init__ must need no arguments."
        ) from error


def _path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _in_a_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _setting(name: str) -> str:
    current = name == settings.PAYMENT_PROVIDER
    return "PAYMENT_PROVIDER" if current else "FORMER_PAYMENT_PROVIDERS"
