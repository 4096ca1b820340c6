"""System checks of the shop's settings and of the database server."""

from __future__ import annotations

from collections.abc import Sequence
from email.utils import parseaddr
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Info, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections

from shop import payments, search_index
from shop.deployment import database_timeouts, replicas
from shop.fast_lane import sure
from shop.links import THIS_MACHINE
from shop.middleware import rate_limits
from shop.payments import stripe_settings


@register(Tags.database)
def database_answers(databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Connect, so that ``check --database`` reports a server that doesn't answer."""
    for alias in databases or ():
        if alias != replicas.REPLICA:  # replica_is_a_copy asks it, and can do without
            connections[alias].ensure_connection()
    return []


@register(Tags.security, deploy=True)
def counters_are_shared(**kwargs: Any) -> list[CheckMessage]:
    if rate_limits.counters_are_shared():
        return []
    return [
        Warning(
            "Each process counts requests for itself: with four web workers an address may ask "
            "four times as often as PAGES_PER_ADDRESS and POSTS_PER_ADDRESS say.",
            hint="Set CACHE_URL to a cache that all processes share: dbcache://shop_cache (after "
            "manage.py createcachetable) or redis://….",
            id="shop.W001",
        )
    ]


@register(Tags.security, deploy=True)
def customers_have_addresses(**kwargs: Any) -> list[CheckMessage]:
    """Behind a proxy that isn't counted, all customers seem to come from the proxy's address."""
    if settings.PROXIES or not getattr(settings, "SECURE_PROXY_SSL_HEADER", None):
        return []
    return [
        Warning(
            "BEHIND_PROXY is true and PROXIES is 0: all customers share the limits of one address, "
            "the proxy's.",
            hint="Set PROXIES to the number of your own proxies that add to X-Forwarded-For.",
            id="shop.W002",
        )
    ]


@register(Tags.security, deploy=True)
def people_are_told(**kwargs: Any) -> list[CheckMessage]:
    """Whether e-mails leave this machine, reach the merchant, and say who sent them."""
    found: list[CheckMessage] = []
    if settings.EMAIL_BACKEND == "django.core.mail.backends.console.EmailBackend":
        found.append(
            Warning(
                "E-mails are printed, not sent: buyers and managers get none.",
                hint="EMAIL_URL=smtp+tls://user:password@host:587",
                id="shop.W003",
            )
        )
    if settings.EMAIL_BACKEND == "django.core.mail.backends.smtp.EmailBackend":
        found += _sender_of_real_mail()
    if not settings.MANAGERS:
        found.append(
            Info(
                "MANAGERS is empty: nobody gets an e-mail when an order comes in, a refund is "
                "refused or stock is wrong.",
                hint="MANAGERS=me@shop.example.org",
                id="shop.I001",
            )
        )
    if not settings.SHOP_ADDRESS and not settings.DEMO:
        found.append(
            Info(
                "SHOP_ADDRESS is empty: e-mails to buyers don't say whom they come from.",
                hint="SHOP_ADDRESS=Name,Street,Postcode and town",
                id="shop.I002",
            )
        )
    return found


def _sender_of_real_mail() -> list[CheckMessage]:
    """Other mail servers refuse e-mails whose sender they can't look up, or take them for spam."""
    _, address = parseaddr(settings.DEFAULT_FROM_EMAIL)
    host = address.rpartition("@")[2].lower()
    if host and host != "localhost" and not host.endswith((".localhost", ".localdomain")):
        return []
    return [
        Warning(
            f"E-mails come from {address}, which is no address outside of this machine: many mail "
            "servers don't take them.",
            hint="DEFAULT_FROM_EMAIL=orders@shop.example.org",
            id="shop.W004",
        )
    ]


@register
def payment_providers_exist(**kwargs: Any) -> list[CheckMessage]:
    try:
        payments.check_settings()
    except ImproperlyConfigured as error:
        return [Error(str(error), id="shop.E001")]
    return []


@register
def stripe_can_be_asked(**kwargs: Any) -> list[CheckMessage]:
    """Name a wrong key or secret by its form, also while older payments alone are at Stripe."""
    if not _uses_stripe():
        return []
    found: list[CheckMessage] = []
    if problem := stripe_settings.secret_key_problem(settings.STRIPE_SECRET_KEY):
        found.append(Error(problem, hint=stripe_settings.KEY_IS_AT, id="shop.E011"))
    if problem := stripe_settings.webhook_secret_problem(settings.STRIPE_WEBHOOK_SECRET):
        found.append(Error(problem, hint=stripe_settings.WEBHOOK_SECRET_IS_AT, id="shop.E012"))
    return found


@register(Tags.security, deploy=True)
def stripe_is_in_the_right_mode(**kwargs: Any) -> list[CheckMessage]:
    """A real shop takes real money, and a demo takes none."""
    key = settings.STRIPE_SECRET_KEY
    if not _uses_stripe() or stripe_settings.secret_key_problem(key):
        return []
    found: list[CheckMessage] = []
    if stripe_settings.is_test_key(key) != settings.DEMO:
        if settings.DEMO:
            problem = "STRIPE_SECRET_KEY is a live key, and DEMO is true: a demo would take money."
            hint = "Set STRIPE_SECRET_KEY to a test key (sk_test_…), or DEMO=false."
        else:
            problem = (
                "STRIPE_SECRET_KEY is a test key: everybody could have everything for nothing."
            )
            hint = "Set STRIPE_SECRET_KEY to a live key (sk_live_…), or DEMO=true for a demo."
        found.append(Error(problem, hint=hint, id="shop.E013"))
    if settings.STRIPE_API_BASE != stripe_settings.STRIPE_ADDRESS and not settings.DEMO:
        found.append(
            Error(
                "STRIPE_API_BASE isn't Stripe's address: another server would get the secret key.",
                hint="Leave STRIPE_API_BASE out. It is there for tests.",
                id="shop.E014",
            )
        )
    return found


def _uses_stripe() -> bool:
    """Whether the settings name Stripe, for new payments or for older ones."""
    try:
        return "stripe" in payments.known_slugs()
    except ImproperlyConfigured:  # payment_providers_exist says so
        return False


@register(Tags.security, deploy=True)
def payments_are_real(**kwargs: Any) -> list[CheckMessage]:
    if settings.PAYMENT_PROVIDER != "demo" or settings.DEMO:
        return []
    return [
        Error(
            "PAYMENT_PROVIDER is demo: everybody could have everything for nothing.",
            hint="Set PAYMENT_PROVIDER=stripe, or name a provider of your own (see "
            "shop/payments/base.py), or set DEMO=true if this shop is there to be tried out.",
            id="shop.E002",
        )
    ]


@register(Tags.security, deploy=True)
def database_is_a_server(**kwargs: Any) -> list[CheckMessage]:
    if settings.DATABASE_URL:
        return []
    return [
        Error(
            "DATABASE_URL is not set: the shop would use the checkout's own PostgreSQL, which "
            "nobody backs up and no second machine can reach.",
            hint="DATABASE_URL=postgres://user:password@host:5432/name",
            id="shop.E003",
        )
    ]


@register(Tags.security, deploy=True)
def secret_key_can_be_read(**kwargs: Any) -> list[CheckMessage]:
    """Say why there is none: Django's own check would call it too short."""
    try:
        str(settings.SECRET_KEY)
    except ImproperlyConfigured as error:
        return [Error(str(error), id="shop.E005")]
    return []


@register(Tags.security, deploy=True)
def hosts_are_named(**kwargs: Any) -> list[CheckMessage]:
    hosts = set(settings.ALLOWED_HOSTS)
    if "*" in hosts:
        problem = (
            "ALLOWED_HOSTS has *: links in the shop's e-mails could be made to lead elsewhere."
        )
    elif hosts <= THIS_MACHINE:
        problem = "ALLOWED_HOSTS names only this machine: customers would get an error."
    else:
        return []
    return [Error(problem, hint="ALLOWED_HOSTS=shop.example.org", id="shop.E004")]


@register(Tags.security, deploy=True)
def base_url_is_set(**kwargs: Any) -> list[CheckMessage]:
    if settings.BASE_URL:
        return []
    return [
        Error(
            "BASE_URL is not set: links in the shop's e-mails would be guessed from a request.",
            hint="BASE_URL=https://shop.example.org",
            id="shop.E010",
        )
    ]


@register(Tags.database)
def locks_are_waited_for_briefly(
    databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Warn of a pooler that doesn't set what the shop can't set through it."""
    return [
        Warning(database_timeouts.MISSING, hint=database_timeouts.HOW_TO_SET, id="shop.W011")
        for alias in databases or ()
        if alias != replicas.REPLICA and database_timeouts.pooler_lacks_them(connections[alias])
    ]


@register(Tags.database)
def search_has_an_index(
    databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Say that the search reads all products, where there are many."""
    if DEFAULT_DB_ALIAS not in (databases or ()) or not search_index.is_missed(DEFAULT_DB_ALIAS):
        return []
    return [
        Warning(
            "Each search reads all products: the database has no index of their words.",
            hint="Let a superuser run CREATE EXTENSION pg_trgm in it (Debian: package "
            "postgresql-contrib), then run manage.py migrate.",
            id="shop.W015",
        )
    ]


@register(Tags.database)
def replica_is_a_copy(databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Compare the replica with the primary, where either is to be looked at."""
    if not settings.REPLICA_URL or not {DEFAULT_DB_ALIAS, replicas.REPLICA} & {*(databases or ())}:
        return []
    problem = replicas.find_problem()
    hint = "Name a streaming replica of DATABASE_URL's server (pg_basebackup -R makes one)."
    return [Error(problem, hint=hint, id="shop.E015")] if problem else []


@register
def fast_lane_knows_the_settings(**kwargs: Any) -> list[CheckMessage]:
    """Warn of settings that the fast lane doesn't know: it is off then."""
    strange = sure.strange_settings() if settings.FAST_LANE else []
    return [
        Warning(
            f"The fast lane is off, since it doesn't know {name} as you have set it.",
            hint="Teach it (shop/fast_lane/sure.py), or set FAST_LANE=off.",
            id="shop.W012",
        )
        for name in strange
    ]
