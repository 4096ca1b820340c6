"""The check that a host is this shop, and may be bought empty.

Nothing of Django is imported here: Locust reads it, too.
"""

from __future__ import annotations

import http.client
import re
import urllib.error
import urllib.request
from http import HTTPStatus
from urllib.parse import quote, urlsplit

from shop import shop_kind

SECONDS = 10  # for an answer
AVAILABLE = re.compile(r'data-available="(-?\d+)"(\s+data-may-be-more)?')


class WrongTarget(Exception):
    """The host can't be used; the message says why, and what would be right."""


def check(host: str, *, own: bool) -> None:
    """Raise WrongTarget unless ``host`` serves this shop, as a demo or as the caller's ``own``."""
    status, text, kind = _get(host, "/healthz")
    if kind not in (shop_kind.DEMO, shop_kind.LIVE):
        raise WrongTarget(
            f"host: {host} isn't this shop: its answer at /healthz has no {shop_kind.HEADER}."
        )
    if status != HTTPStatus.OK:
        raise WrongTarget(f"host: the shop at {host} can't serve customers: {text.strip()}")
    if kind != shop_kind.DEMO and not own:
        raise WrongTarget(
            f"host: the shop at {host} doesn't say that it is a demo, and these buyers would "
            "buy it empty. Serve it with DEMO=true, or give --i-own-this-shop."
        )


def units_shown(host: str, product: str) -> int:
    """The available units that the product's page shows. Raises WrongTarget."""
    status, text, _ = _get(host, f"/products/{quote(product, safe='')}/")
    if status == HTTPStatus.NOT_FOUND:
        raise WrongTarget(f"product: the shop at {host} has no product {product!r}.")
    shown = AVAILABLE.search(text)
    if status != HTTPStatus.OK or shown is None:
        raise WrongTarget(
            f"product: its page at {host} doesn't show what is available (status {status})."
        )
    if shown[2]:
        raise WrongTarget(
            f"product: its page at {host} says “at least {shown[1]} left”, which is too vague to "
            "compare with what is sold. The shop's worker takes lapsed holds back; then the page "
            "shows the exact number."
        )
    return int(shown[1])


def _get(host: str, path: str) -> tuple[int, str, str]:
    """The status, the text, and the shop's kind."""
    _check_address(host)
    try:
        with urllib.request.urlopen(host + path, timeout=SECONDS) as answer:
            return answer.status, _text(answer), answer.headers.get(shop_kind.HEADER, "")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, _text(error), error.headers.get(shop_kind.HEADER, "")
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise WrongTarget(f"host: {host} can't be reached: {reason}") from error


def _text(answer: http.client.HTTPResponse | urllib.error.HTTPError) -> str:
    return answer.read(1_000_000).decode(errors="replace")


def _check_address(host: str) -> None:
    try:
        parts = urlsplit(host)
        well_formed = parts.scheme in ("http", "https") and parts.netloc and parts.port != 0
    except ValueError:
        well_formed = False
    if not well_formed or parts.path or parts.query or parts.fragment:
        raise WrongTarget(f"host: {host!r} won't do; it must be like http://localhost:8000")
