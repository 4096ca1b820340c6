"""What experiments are asked for: checked before they begin, and said in the same words."""

from __future__ import annotations

from collections.abc import Sequence

from inventory import strategies
from inventory.exceptions import InventoryError
from inventory.strategies import Strategy


class InvalidParameters(InventoryError):
    """An experiment that can't be run; the message names the parameter and what would do."""


def check_within(name: str, value: float, least: float, most: float) -> None:
    """Raise InvalidParameters unless the value is in these bounds."""
    if not least <= value <= most:
        raise InvalidParameters(f"{name}: {value} won't do; it must be {least} to {most:,}.")


def chosen_strategies(slugs: Sequence[str]) -> list[Strategy]:
    """The strategies of these names, in this order, each once; without names, all.

    Raises UnknownStrategy.
    """
    if not slugs:
        return list(strategies.all_strategies())
    return [strategies.get(slug) for slug in dict.fromkeys(slugs)]
