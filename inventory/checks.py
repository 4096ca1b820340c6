"""System checks of the app's settings, its database, and the products' strategies."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router

from inventory import conf, strategies
from inventory.database import alias
from inventory.exceptions import UnknownStrategy
from inventory.models import Product


@register
def strategies_can_be_loaded(**kwargs: Any) -> list[CheckMessage]:
    return [Error(problem, id="inventory.E003") for problem in _problems_of_strategies()]


@register
def durations_are_timedeltas(**kwargs: Any) -> list[CheckMessage]:
    values: dict[str, Any] = {
        "INVENTORY_HOLD_FOR": conf.hold_for(),
        "INVENTORY_KEEP_ENDED_FOR": conf.keep_ended_for(),
    }
    return [
        Error(f"{name} is {value!r}: it must be a timedelta of more than 0.", id="inventory.E006")
        for name, value in values.items()
        if not isinstance(value, timedelta) or value <= timedelta(0)
    ]


@register
def database_is_postgresql(**kwargs: Any) -> list[CheckMessage]:
    """PostgreSQL's row locks, clock and deferred triggers keep the law."""
    kept_in = connections[alias()]
    if kept_in.vendor == "postgresql":
        return []
    return [
        Error(
            f"The database “{alias()}”, which keeps the stock, is no PostgreSQL: its ENGINE is "
            f"{kept_in.settings_dict['ENGINE']!r}.",
            hint="Let DATABASES name a PostgreSQL database there, or let a router send the app "
            "“inventory”, and the users, to one that is.",
            id="inventory.E004",
        )
    ]


@register
def all_tables_are_in_one_database(**kwargs: Any) -> list[CheckMessage]:
    """All tables must be in one database: reads must see writes, and rows refer to users."""
    models = [*apps.get_app_config("inventory").get_models(), get_user_model()]
    elsewhere = {
        f"{model._meta.label} is {what} “{other}”"
        for model in models
        for what, other in (
            ("read from", router.db_for_read(model)),
            ("written to", router.db_for_write(model)),
        )
        if other != alias()
    }
    if not elsewhere:
        return []
    return [
        Error(
            f"The stock is kept in the database “{alias()}”, and {each}.",
            hint="Let the routers send all models of the app “inventory”, and the users, to one "
            "database, for reading as for writing.",
            id="inventory.E005",
        )
        for each in sorted(elsewhere)
    ]


@register
def default_strategy_exists(**kwargs: Any) -> list[CheckMessage]:
    if _problems_of_strategies():
        return []
    try:
        strategies.get(conf.default_strategy())
    except UnknownStrategy as error:
        return [Error(f"INVENTORY_STRATEGY: {error}", id="inventory.E001")]
    return []


@register(Tags.security, deploy=True)
def default_strategy_is_safe(**kwargs: Any) -> list[CheckMessage]:
    if _problems_of_strategies():
        return []
    slug = conf.default_strategy()
    if any(s.slug == slug and not s.is_safe for s in strategies.all_strategies()):
        return [
            Error(
                f"INVENTORY_STRATEGY is {slug}, which oversells.",
                hint="Choose a safe one: "
                + ", ".join(s.slug for s in strategies.all_strategies() if s.is_safe),
                id="inventory.E002",
            )
        ]
    return []


@register(Tags.database)
def strategies_of_products_exist(
    databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Warn of strategies that products use and the setting no longer names."""
    if alias() not in (databases or ()) or _problems_of_strategies():
        return []
    if Product._meta.db_table not in connections[alias()].introspection.table_names():
        return []  # no migration was run yet
    known = [each.slug for each in strategies.all_strategies()]
    others = Product.objects.catalogue().exclude(strategy__in=["", *known])
    gone = others.order_by("strategy").values_list("strategy", flat=True).distinct()
    return [
        Warning(
            f"Products have the strategy “{slug}”, which there is not. Nobody can buy them.",
            hint="Add its dotted path to INVENTORY_STRATEGIES, or choose another one for them.",
            id="inventory.W001",
        )
        for slug in gone
    ]


def _problems_of_strategies() -> list[str]:
    """The faults of the setting INVENTORY_STRATEGIES, a line each."""
    try:
        strategies.all_strategies()
    except ImproperlyConfigured as error:
        return str(error).splitlines()
    return []
