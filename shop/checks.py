"""What Django's system checks say about the shop's settings, and about the database server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Tags, Warning, register
from django.db import connections

from shop import limits


@register(Tags.database)
def database_answers(databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Connect, so that ``check --database`` finds out. An OperationalError is told as any other."""
    for alias in databases or ():
        connections[alias].ensure_connection()
    return []


@register(Tags.security, deploy=True)
def counters_are_shared(**kwargs: Any) -> list[CheckMessage]:
    if limits.counters_are_shared():
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
