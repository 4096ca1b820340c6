"""Ways of taking stock: one file each, one contract (``base.Strategy``), and this registry."""

from __future__ import annotations

import difflib

from inventory.exceptions import UnknownStrategy
from inventory.strategies.base import Strategy
from inventory.strategies.combined import Combined
from inventory.strategies.conditional_update import ConditionalUpdate
from inventory.strategies.mutex import Mutex
from inventory.strategies.naive import Naive
from inventory.strategies.process_mutex import ProcessMutex
from inventory.strategies.select_for_update import SelectForUpdate
from inventory.strategies.serializable import Serializable
from inventory.strategies.single_statement import SingleStatement
from inventory.strategies.unguarded_decrement import UnguardedDecrement
from inventory.strategies.versioned import Versioned

__all__ = ["Strategy", "all_strategies", "create", "get", "label_of", "register"]

_CLASSES: dict[str, type[Strategy]] = {
    strategy.slug: strategy
    for strategy in (
        Naive,
        UnguardedDecrement,
        ProcessMutex,
        Mutex,
        SelectForUpdate,
        ConditionalUpdate,
        Versioned,
        Serializable,
        SingleStatement,
        Combined,
    )
}

# One of each per process, for its lifetime: what a strategy remembers (the lock of
# process_mutex), it remembers for all threads of the process.
_INSTANCES: dict[str, Strategy] = {slug: cls() for slug, cls in _CLASSES.items()}


def all_strategies() -> list[Strategy]:
    """Every strategy, the unsafe ones first."""
    return list(_INSTANCES.values())


def get(slug: str) -> Strategy:
    """Return this process's strategy of that name. Raises UnknownStrategy."""
    return _INSTANCES[_known(slug)]


def create(slug: str) -> Strategy:
    """Return a new one, as another process would have it. Raises UnknownStrategy."""
    return _CLASSES[_known(slug)]()


def label_of(slug: str) -> str:
    """The strategy's name for people; the slug where no strategy has it (any more)."""
    return _INSTANCES[slug].label if slug in _INSTANCES else slug


def register(strategy: type[Strategy]) -> None:
    """Let this process know a strategy of your own, in place of another one of its slug."""
    _CLASSES[strategy.slug] = strategy
    _INSTANCES[strategy.slug] = strategy()


def _known(slug: str) -> str:
    if slug in _CLASSES:
        return slug
    near = difflib.get_close_matches(slug, _CLASSES, n=3, cutoff=0.4)
    names = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(_CLASSES)}."
    raise UnknownStrategy(f"There is no strategy “{slug}”: {names}")
