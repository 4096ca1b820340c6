"""Pages with a secret address: anybody who knows the address may read them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpResponse

View = Callable[..., HttpResponse]


def private_page(view: View) -> View:
    """Mark a view whose address no search engine and no other site may learn.
    (``shop.middleware.cache_control`` keeps copies out of caches.)

    Not ``no-referrer``: browsers would send the page's own forms with ``Origin: null``, and the
    check against forged requests would refuse them.
    """

    @wraps(view)
    def kept_private(*args: Any, **kwargs: Any) -> HttpResponse:
        response = view(*args, **kwargs)
        response["Referrer-Policy"] = "same-origin"
        response["X-Robots-Tag"] = "noindex, nofollow"
        return response

    return kept_private
