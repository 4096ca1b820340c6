"""Postal addresses: their parts, the way they are written, and the countries that we send to."""

from __future__ import annotations

from dataclasses import dataclass

from babel import Locale

# Territories in Unicode's list that are no countries for the post.
NO_COUNTRIES = {"EU", "EZ", "QO", "UN", "XA", "XB", "ZZ"}
COUNTRY_NAMES: dict[str, str] = {
    code: name
    for code, name in Locale("en").territories.items()
    if len(code) == 2 and code.isalpha() and code not in NO_COUNTRIES
}
EUROPE = [
    *("DE", "AT", "BE", "BG", "CH", "CY", "CZ", "DK", "EE", "ES", "FI", "FR", "GB", "GR", "HR"),
    *("HU", "IE", "IT", "LI", "LT", "LU", "LV", "MT", "NL", "NO", "PL", "PT", "RO", "SE", "SI"),
    "SK",
]
POSTCODE_AFTER_TOWN = {"AU", "CA", "GB", "GG", "IE", "IM", "IN", "JE", "NZ", "SG", "US", "ZA"}


@dataclass(frozen=True)
class Address:
    """The address that an order is sent to, without the name."""

    street: str
    """The part before the town, of one or more text lines: street and number, flat, company."""
    postcode: str = ""
    town: str = ""
    country: str = ""
    """ISO code of two letters. Without town and country, ``street`` is the whole address."""

    @property
    def lines(self) -> list[str]:
        """The text lines of the address, as written on a parcel."""
        parts = [self.postcode, self.town]
        if self.country in POSTCODE_AFTER_TOWN:
            parts.reverse()
        town = " ".join(filter(None, parts))
        written = [*self.street.splitlines(), town, country_name(self.country)]
        return [line.strip() for line in written if line.strip()]

    def __str__(self) -> str:
        return "\n".join(self.lines)


def country_name(code: str) -> str:
    """The country's name in English; the code itself if we don't know it."""
    return COUNTRY_NAMES.get(code, code)


def country_choices(codes: list[str]) -> list[tuple[str, str]]:
    """The countries in the order of their names, for a list to choose from."""
    return sorted(((code, country_name(code)) for code in codes), key=lambda choice: choice[1])
