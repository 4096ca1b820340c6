"""The app's settings, with their defaults."""

from datetime import timedelta

from django.conf import settings


def hold_for() -> timedelta:
    """How long a reservation is held: INVENTORY_HOLD_FOR, by default ten minutes."""
    value: timedelta = getattr(settings, "INVENTORY_HOLD_FOR", timedelta(minutes=10))
    return value


def keep_ended_for() -> timedelta:
    """How long a reservation that came to nothing is kept: INVENTORY_KEEP_ENDED_FOR, 90 days."""
    value: timedelta = getattr(settings, "INVENTORY_KEEP_ENDED_FOR", timedelta(days=90))
    return value


def default_strategy() -> str:
    """The strategy of products that name none: INVENTORY_STRATEGY."""
    slug: str = getattr(settings, "INVENTORY_STRATEGY", "combined")
    return slug
