"""The products: some are scarce, some have a limit per customer, all have one of the strategies."""

from __future__ import annotations

import random
from decimal import Decimal

from tests.tools.drills import make_product

DEFAULT = "combined"  # the shop's own, and the only one that the fast lane serves
STRATEGIES = [
    DEFAULT,
    "single_statement",
    "conditional_update",
    "select_for_update",
    "mutex",
    "versioned",
    "serializable",
]
PLENTY = 100_000  # units
MOST_OF_LIMITED = 2  # units per customer
SCARCE, LIMITED, COMMON = "scarce", "limited", "common"


def stock_shop() -> None:
    """Make the products that are there all the time: nobody buys so many units."""
    for number, strategy in enumerate(STRATEGIES):
        price = Decimal("7.35") + number * Decimal("3.17")
        make_product(f"{COMMON}-{strategy}", PLENTY, price=price, strategy=strategy)
        make_product(
            f"{LIMITED}-{strategy}",
            PLENTY,
            price=price,
            strategy=strategy,
            max_per_buyer=MOST_OF_LIMITED,
        )


def choose_strategy(chance: random.Random) -> str:
    """The shop's default half of the time, else any."""
    return DEFAULT if chance.random() < 0.5 else chance.choice(STRATEGIES)


def add_scarce(number: int, chance: random.Random) -> str:
    """Make a product of few units, which never come back; return its slug."""
    slug = f"{SCARCE}-{number}"
    make_product(slug, chance.randint(4, 12), strategy=choose_strategy(chance))
    return slug
