"""The form of an address, and the countries that the shop sends to."""

from __future__ import annotations

import pytest

from shop.address import Address, country_choices


@pytest.mark.parametrize(
    ("address", "lines"),
    [
        (
            Address("1 Main Street\nFlat 2", "10115", "Berlin", "DE"),
            ["1 Main Street", "Flat 2", "10115 Berlin", "Germany"],
        ),
        (
            Address("12 St James's Square", "SW1Y 4JH", "London", "GB"),
            ["12 St James's Square", "London SW1Y 4JH", "United Kingdom"],
        ),
        (Address(" 1 Main Street \r\n\r\n Springfield "), ["1 Main Street", "Springfield"]),
        (Address("1 Main Street", "", "Berlin", "XX"), ["1 Main Street", "Berlin", "XX"]),
    ],
)
def test_an_address_is_written_as_on_a_parcel(address: Address, lines: list[str]) -> None:
    assert address.lines == lines
    assert str(address) == "\n".join(lines)


def test_countries_are_chosen_from_a_list_by_name() -> None:
    assert country_choices(["GB", "DE"]) == [("DE", "Germany"), ("GB", "United Kingdom")]
