"""Context of every page of the shop."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from shop import basket as baskets
from shop import notices


def basket(request: HttpRequest) -> dict[str, Any]:
    """``units_in_basket`` and ``notices``: looked up only if the page shows them."""
    buyer = getattr(request, "buyer", "")
    return {
        "units_in_basket": lambda: baskets.units_in_basket(buyer),
        "notices": lambda: notices.pending_notices(request, buyer),
    }
