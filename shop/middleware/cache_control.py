"""Copies of pages: a visitor's own browser may keep some of them, and nobody else keeps any.

Each page shows what is its visitor's own, if only the number of units in the basket. So no proxy
may keep one. A browser may keep the shelves, for its back button, if it asks again before it
shows them. The rest (baskets, orders, staff's pages, and whatever page comes to the shop next)
isn't kept at all: somebody else may sit at the same computer later.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.utils.cache import add_never_cache_headers, patch_cache_control

SHELVES = re.compile(r"/((products|help)/.*)?")


def middleware(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Send ``Cache-Control`` with every answer that has none of its own, errors among them."""

    def handle(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if "Cache-Control" in response:  # static files and pictures, the same for everybody
            return response
        if SHELVES.fullmatch(request.path_info):
            patch_cache_control(response, private=True, no_cache=True)
        else:
            add_never_cache_headers(response)
        return response

    return handle
