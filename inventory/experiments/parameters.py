"""Checks of the experiments' parameters, before they begin."""

from __future__ import annotations

from collections.abc import Sequence

from inventory import strategies
from inventory.exceptions import InventoryError
from inventory.strategies import Strategy


class InvalidParameters(InventoryError):
    """The experiment can't run. The message names the parameter and its right values."""


def check_within(name: str, value: float, least: float, most: float) -> None:
    """Raise InvalidParameters unless the value is in these bounds."""
    if not least <= value <= most:
        raise InvalidParameters(f"{name}: must be {least} to {most:,}, not {value}.")


def chosen_strategies(slugs: Sequence[str]) -> list[Strategy]:
    """The strategies with these slugs, in this order, each once. Without slugs, all strategies.

    Raises UnknownStrategy.
    """
    if not slugs:
        return list(strategies.all_strategies())
    return [strategies.get(slug) for slug in dict.fromkeys(slugs)]
