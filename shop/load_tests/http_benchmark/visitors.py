"""Visitors who have been to the shop before: their signed cookies, and the tokens of their forms.

They are written into a file before the start. Each line is a visitor: the Cookie header, a tab,
and the token. Thousands take turns, so that their baskets stay as small as those of people.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from django.http import HttpRequest
from django.middleware.csrf import get_token
from django.utils.crypto import get_random_string

from shop.load_tests.http_benchmark.client import Client
from shop.middleware import buyer

TOKEN = re.compile(rb'name="csrfmiddlewaretoken" value="([^"]+)"')


def write_own(file: Path, number: int) -> None:
    """Write visitors of the shop with our own settings."""
    file.write_text("".join(_own_visitors(number)))


def write_met(file: Path, number: int, host: str, port: int, path: str) -> None:
    """Write visitors of any shop: each gets the page at ``path``, which has a form.

    Raises ConnectionError if it hasn't.
    """
    client = Client(host, port)
    try:
        file.write_text("".join(_met(client, path) for _ in range(number)))
    finally:
        client.close()


def own_cookies(key: str, secret: str = "") -> str:
    """The Cookie header of our shop's buyer with this key."""
    signed = f"{buyer.cookie_name()}={buyer.signed_key(key)}"
    return f"{signed}; csrftoken={secret}" if secret else signed


def _own_visitors(number: int) -> Iterator[str]:
    for _ in range(number):
        request = HttpRequest()
        token = get_token(request)
        secret = request.META["CSRF_COOKIE"]
        yield f"{own_cookies(get_random_string(32), secret)}\t{token}\n"


def _met(client: Client, path: str) -> str:
    page = client.get(path)
    token = TOKEN.search(page.body)
    if token is None:
        raise ConnectionError(f"{path} has no form to reserve (status {page.status}).")
    return f"{page.cookies.decode()}\t{token[1].decode()}\n"
