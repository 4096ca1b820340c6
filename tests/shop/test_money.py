"""Amounts of money, as pages show them."""

from decimal import Decimal

from shop import money


def test_an_amount_is_shown_as_people_write_it() -> None:
    assert money.format_amount(Decimal("1249"), "EUR") == "€1,249.00"
    assert money.format_amount(Decimal("4.9"), "USD") == "$4.90"


def test_minus_zero_does_not_become_the_text_of_zero() -> None:
    money.format_amount(Decimal("-0"), "EUR")
    assert money.format_amount(Decimal("0"), "EUR") == "€0.00"
