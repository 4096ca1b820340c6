"""The one door to the database: the server of DATABASE_URL, or the checkout's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from environ import Env

from shop import embedded_postgres
from shop.embedded_postgres import EmbeddedPostgres


def configure(url: str, checkout: Path) -> dict[str, Any]:
    """Return Django's settings of the database.

    ``url`` is ``postgres://user:password@host:port/name``, or empty for the private PostgreSQL
    of ``checkout``, which is running when this returns.

    Raises ImproperlyConfigured if the URL isn't one of PostgreSQL, and EmbeddedPostgresError
    if the private server can't be started.
    """
    settings = _of_server(url) if url else _of_checkout(checkout)
    return {
        **settings,
        "CONN_MAX_AGE": 60,  # seconds
        "CONN_HEALTH_CHECKS": True,
        # A server-side cursor lives longer than a transaction: a pooler would lose it.
        "DISABLE_SERVER_SIDE_CURSORS": True,
    }


def _of_server(url: str) -> dict[str, Any]:
    try:
        settings = Env.db_url_config(url)
    except (ValueError, KeyError) as error:
        raise ImproperlyConfigured(f"DATABASE_URL can't be read: {error}") from error
    if settings.get("ENGINE") != "django.db.backends.postgresql" or not settings.get("NAME"):
        raise ImproperlyConfigured(
            "DATABASE_URL must name a PostgreSQL database, as in "
            "postgres://user:password@host:5432/name: the shop's guarantees are PostgreSQL's."
        )
    return dict(settings)


def _of_checkout(checkout: Path) -> dict[str, Any]:
    server = EmbeddedPostgres(checkout.resolve() / ".postgres")
    server.hold()
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": embedded_postgres.DATABASE,
        "USER": embedded_postgres.USER,
        "HOST": str(server.socket_dir),
        "PORT": str(embedded_postgres.PORT),
    }
