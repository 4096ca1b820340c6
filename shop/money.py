"""Amounts of money: always Decimal, in the shop's one currency."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache

from babel.numbers import format_currency

MOST_SHIPPING = Decimal("99999999.99")  # the most that an order can store as its shipping cost
MOST_TOTAL = Decimal("9999999999.99")  # the most that an order's total and a payment can store


def format_amount(amount: Decimal, currency: str) -> str:
    """The amount as people write it: €1,249.00."""
    return _format(str(amount), currency)


@lru_cache(maxsize=10_000)  # babel takes long, and most amounts are on many pages
def _format(amount: str, currency: str) -> str:
    # By its text, since zero and minus zero are equal.
    return format_currency(Decimal(amount), currency, locale="en")
