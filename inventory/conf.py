"""The app's settings, with their defaults."""

from collections.abc import Sequence
from datetime import timedelta

from django.conf import settings

# Our own strategies, from those that oversell to the best one. To add yours, name all of them in
# your settings: INVENTORY_STRATEGIES = [*STRATEGIES, "guitars.strategies.Careful"].
STRATEGIES = (
    "inventory.strategies.naive.Naive",
    "inventory.strategies.unguarded_decrement.UnguardedDecrement",
    "inventory.strategies.process_mutex.ProcessMutex",
    "inventory.strategies.mutex.Mutex",
    "inventory.strategies.select_for_update.SelectForUpdate",
    "inventory.strategies.conditional_update.ConditionalUpdate",
    "inventory.strategies.versioned.Versioned",
    "inventory.strategies.serializable.Serializable",
    "inventory.strategies.single_statement.SingleStatement",
    "inventory.strategies.combined.Combined",
)


def hold_for() -> timedelta:
    """How long a reservation is held: INVENTORY_HOLD_FOR, by default ten minutes."""
    value: timedelta = getattr(settings, "INVENTORY_HOLD_FOR", timedelta(minutes=10))
    return value


def keep_ended_for() -> timedelta:
    """How long a reservation that came to nothing is kept: INVENTORY_KEEP_ENDED_FOR, 90 days."""
    value: timedelta = getattr(settings, "INVENTORY_KEEP_ENDED_FOR", timedelta(days=90))
    return value


def strategies() -> Sequence[str]:
    """The dotted paths of all strategies: INVENTORY_STRATEGIES, by default ours."""
    paths: Sequence[str] = getattr(settings, "INVENTORY_STRATEGIES", STRATEGIES)
    return paths


def default_strategy() -> str:
    """The strategy of products that name none: INVENTORY_STRATEGY."""
    slug: str = getattr(settings, "INVENTORY_STRATEGY", "combined")
    return slug
