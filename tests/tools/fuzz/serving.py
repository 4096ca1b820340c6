"""The drill's web servers: gunicorn with the fast lane, and gunicorn without it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import IO

from shop.load_tests.serving import ServedShop
from tests.tools.fuzz.environment import AS_IN_PRODUCTION
from tests.tools.fuzz.sending import WebServer

APPS = ("shop.asgi", "shop.wsgi")


@contextlib.contextmanager
def web_servers(media: str, log: IO[bytes]) -> Iterator[list[WebServer]]:
    """Serve the shop on our database, while a block runs. The programs write into ``log``."""
    variables = {**AS_IN_PRODUCTION, "MEDIA_ROOT": media}
    shops = [ServedShop(variables, app=app, log=log) for app in APPS]
    try:
        webs = [shop.start_web().pid for shop in shops]
        yield [WebServer(shop.host, shop.port, web) for shop, web in zip(shops, webs, strict=True)]
    finally:
        for shop in shops:
            shop.stop()
