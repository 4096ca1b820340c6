"""What Django's system checks say about the shop's settings."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, Tags, Warning, register

from shop import limits


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
