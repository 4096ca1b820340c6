"""Numbers of units that make sense."""

from __future__ import annotations

from inventory.exceptions import InvalidQuantity

MOST_UNITS = 2_147_483_647  # what PostgreSQL's integer holds


def checked(quantity: object) -> int:
    """Return ``quantity`` if it is a number of units, 1 to MOST_UNITS; else raise InvalidQuantity.

    >>> checked(3)
    3
    """
    if isinstance(quantity, bool) or not isinstance(quantity, int):
        raise InvalidQuantity(f"The quantity must be a whole number, not {quantity!r}.")
    if quantity < 1:
        raise InvalidQuantity(f"The quantity must be at least 1, not {quantity}.")
    if quantity > MOST_UNITS:
        raise InvalidQuantity(f"The quantity must be at most {MOST_UNITS}.")
    return quantity
