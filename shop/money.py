"""Amounts of money: always Decimal, in the shop's one currency."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from babel.numbers import format_currency, get_currency_precision, is_currency

MOST_SHIPPING = Decimal("99999999.99")
MOST_TOTAL = Decimal("9999999999.99")  # the most that an order's total and a payment can store


def currency(value: str) -> str:
    """A ``cast`` of settings: the ISO code of a currency with two decimal places.

    Prices are stored with two decimal places. A currency with none or three would show an
    amount that differs from the one charged.
    """
    code = value.upper()
    if not is_currency(code):
        raise ValueError("it must be the ISO code of a currency, such as EUR.")
    if get_currency_precision(code) != 2:
        raise ValueError("it must be a currency with two decimal places: prices have two.")
    return code


def amount(value: str) -> Decimal:
    """A ``cast`` of settings: an amount of money, zero or more, such as 4.90."""
    try:
        amount = Decimal(value)
        if 0 <= amount <= MOST_SHIPPING and amount == amount.quantize(Decimal("0.01")):
            return amount.quantize(Decimal("0.01"))
    except InvalidOperation:
        pass
    raise ValueError("it must be an amount such as 4.90.")


def format_amount(amount: Decimal, currency: str) -> str:
    """The amount as people write it: €1,249.00."""
    return format_currency(amount, currency, locale="en")
