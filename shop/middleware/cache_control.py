"""Copies of pages: a visitor's own browser may keep some of them, and nobody else keeps any.

Every page shows something private, if only the number of units in the basket. So no proxy may keep
a copy. A browser may keep the catalogue's pages for its back button, if it asks again before it
shows them. No copies are kept of all other pages (baskets, orders, staff's pages, and any new kind
of page): somebody else may sit at the same computer later.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.utils.cache import add_never_cache_headers, patch_cache_control

CATALOGUE = re.compile(r"/((products|help)/.*)?")


def middleware(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Add ``Cache-Control`` to every response without it, error pages included."""

    def handle(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if "Cache-Control" in response:  # static files and pictures, the same for everybody
            return response
        if CATALOGUE.fullmatch(request.path_info):
            patch_cache_control(response, private=True, no_cache=True)
        else:
            add_never_cache_headers(response)
        return response

    return handle
