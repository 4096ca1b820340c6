"""Whether a host is this shop, and may be bought empty. No Django here: Locust imports it, too."""

from __future__ import annotations

import http.client
import re
import urllib.error
import urllib.request
from http import HTTPStatus
from urllib.parse import quote, urlsplit

from shop import shop_kind

SECONDS = 10  # for an answer
AVAILABLE = re.compile(r'data-available="(-?\d+)"')


class WrongTarget(Exception):
    """It can't be driven; the message says why, and what would be right."""


def check(host: str, *, own: bool) -> None:
    """Raise WrongTarget unless this shop is at ``host``, and is a demo or the caller's ``own``."""
    status, text, said = _get(host, "/healthz")
    if said not in (shop_kind.DEMO, shop_kind.LIVE):
        raise WrongTarget(
            f"host: {host} isn't this shop: what it answers at /healthz has no {shop_kind.HEADER}."
        )
    if status != HTTPStatus.OK:
        raise WrongTarget(f"host: the shop at {host} can't serve customers: {text.strip()}")
    if said != shop_kind.DEMO and not own:
        raise WrongTarget(
            f"host: the shop at {host} doesn't say that it is a demo, and buyers who mean nothing "
            "by it would buy it empty. Serve it with DEMO=true, or give --i-own-this-shop."
        )


def units_shown(host: str, product: str) -> int:
    """How many units of a product its page says anybody may take now. Raises WrongTarget."""
    status, text, _ = _get(host, f"/products/{quote(product, safe='')}/")
    if status == HTTPStatus.NOT_FOUND:
        raise WrongTarget(f"product: the shop at {host} has none that is called {product!r}.")
    shown = AVAILABLE.search(text)
    if status != HTTPStatus.OK or shown is None:
        raise WrongTarget(
            f"product: its page at {host} doesn't say what there is (it is {status})."
        )
    return int(shown[1])


def _get(host: str, path: str) -> tuple[int, str, str]:
    """The status, the text, and what the shop says that it is."""
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
