"""Amounts of money, as settings read them and pages show them."""

from decimal import Decimal

import pytest

from shop import money


def test_an_amount_is_shown_as_people_write_it() -> None:
    assert money.format_amount(Decimal("1249"), "EUR") == "€1,249.00"
    assert money.format_amount(Decimal("4.9"), "USD") == "$4.90"


def test_a_currency_is_one_with_two_decimal_places() -> None:
    assert money.currency("chf") == "CHF"
    for wrong in ("EURO", "€", "JPY", "KWD"):
        with pytest.raises(ValueError, match="it must be"):
            money.currency(wrong)


def test_an_amount_of_a_setting_is_zero_or_more_with_two_decimal_places() -> None:
    assert money.amount("0") == Decimal("0.00")
    assert str(money.amount("4.9")) == "4.90"
    for wrong in ("-1", "4,90", "1.999", "NaN", "Infinity", "1e30", "free"):
        with pytest.raises(ValueError, match="such as"):
            money.amount(wrong)
