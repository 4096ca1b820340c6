"""Amounts in minor units, and the limits that Stripe documents for each currency."""

from __future__ import annotations

LARGEST_AMOUNT = 99_999_999  # eight digits

SMALLEST_AMOUNTS = {
    "aud": 50,
    "bgn": 100,
    "brl": 50,
    "cad": 50,
    "chf": 50,
    "czk": 1500,
    "dkk": 250,
    "eur": 50,
    "gbp": 30,
    "hkd": 400,
    "huf": 17500,
    "inr": 50,
    "jpy": 50,
    "mxn": 1000,
    "nok": 300,
    "nzd": 50,
    "pln": 200,
    "ron": 200,
    "sek": 300,
    "sgd": 50,
    "usd": 50,
}
"""The currencies that the stand-in takes, with the smallest charge that Stripe documents."""

WITHOUT_DECIMALS = {"jpy"}
SYMBOLS = {"eur": "€", "gbp": "£", "jpy": "¥", "usd": "$"}


def format_amount(amount: int, currency: str) -> str:
    """Return an amount of minor units for people: €12.34."""
    number = f"{amount:,}" if currency in WITHOUT_DECIMALS else f"{amount / 100:,.2f}"
    symbol = SYMBOLS.get(currency)
    return f"{symbol}{number}" if symbol else f"{number} {currency.upper()}"


def card_fee(amount: int) -> int:
    """Return the fee for a card: 1.5 % and 25 minor units, as for European cards."""
    return round(amount * 0.015) + 25


DISPUTE_FEE = 2000
