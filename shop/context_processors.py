"""What every page of the shop shows."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from shop import basket as baskets


def basket(request: HttpRequest) -> dict[str, Any]:
    """``units_in_basket``: asked of the database only by a page that shows it."""
    buyer = getattr(request, "buyer", "")
    return {"units_in_basket": lambda: baskets.units(buyer)}
