"""What Django's system checks say about the app's settings."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, Error, Tags, register

from inventory import conf, strategies
from inventory.exceptions import UnknownStrategy


@register
def default_strategy_exists(**kwargs: Any) -> list[CheckMessage]:
    try:
        strategies.get(conf.default_strategy())
    except UnknownStrategy as error:
        return [Error(f"INVENTORY_STRATEGY: {error}", id="inventory.E001")]
    return []


@register(Tags.security, deploy=True)
def default_strategy_is_safe(**kwargs: Any) -> list[CheckMessage]:
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
