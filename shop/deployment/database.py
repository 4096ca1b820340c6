"""The address of the database: on the server of DATABASE_URL, or in the checkout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psycopg
from django.core.exceptions import ImproperlyConfigured
from psycopg.conninfo import conninfo_to_dict

from shop.deployment import embedded_postgres
from shop.deployment.embedded_postgres import EmbeddedPostgres

# A server whose machine or network went away says nothing. It is noticed within 20 seconds, and not
# only when Linux gives up, after a quarter of an hour or two hours. The URL may say otherwise.
NOTICE_WHEN_AWAY = {
    "keepalives_idle": "10",  # seconds
    "keepalives_interval": "5",  # seconds
    "keepalives_count": "2",
    "tcp_user_timeout": "20000",  # milliseconds
}
MOST_PORT = 65535
ENCODE = "special characters in the user name and the password are percent-encoded (@ is %40)."
SECONDS_TO_CONNECT = "5"  # to a replica: without it the primary answers
OF_CONNECTIONS = {
    "CONN_MAX_AGE": 60,  # seconds
    "CONN_HEALTH_CHECKS": True,
    # A server-side cursor lives longer than a transaction: a pooler would lose it.
    "DISABLE_SERVER_SIDE_CURSORS": True,
}


def configure(url: str, checkout: Path) -> dict[str, Any]:
    """Return Django's settings of the database.

    ``url`` is ``postgres://user:password@host:port/name``, or empty for the private PostgreSQL
    of ``checkout``, which the first connection starts.

    All parts of PostgreSQL's URLs work: ``?sslmode=require``, several hosts, a socket's directory
    as in ``postgres:///name?host=/run/postgresql``.

    Raises ImproperlyConfigured if the URL isn't one of PostgreSQL.
    """
    settings = _of_server("DATABASE_URL", url) if url else _of_checkout(checkout)
    return {**settings, **OF_CONNECTIONS}


def with_replica(primary: dict[str, Any], url: str) -> dict[str, dict[str, Any]]:
    """Return Django's DATABASES of the primary, and of its read replica at ``url``.

    Raises ImproperlyConfigured if the URL isn't one of PostgreSQL, or is the primary's.
    """
    settings = _of_server("REPLICA_URL", url)
    if "," in settings["HOST"]:  # how far it is behind is asked of one, and would hold for all
        raise ImproperlyConfigured("REPLICA_URL must name one server, with one host.")
    if all(settings[key] == primary[key] for key in ("HOST", "PORT", "NAME")):
        raise ImproperlyConfigured(
            "REPLICA_URL names the same server as DATABASE_URL. It must name a streaming replica "
            "of it, or be left out."
        )
    settings["OPTIONS"] = {"connect_timeout": SECONDS_TO_CONNECT, **settings["OPTIONS"]}
    replica = {**settings, **OF_CONNECTIONS, "TEST": {"MIRROR": "default"}}
    return {"default": primary, "replica": replica}


def url_of(database: Mapping[str, Any]) -> str:
    """The DATABASE_URL of these settings, such as ``connection.settings_dict``."""
    where = {"host": "HOST", "port": "PORT", "user": "USER", "password": "PASSWORD"}
    given = {name: database[key] for name, key in where.items() if database[key]}
    return f"postgres:///{database['NAME']}?{urlencode(given)}"


def _of_server(name: str, url: str) -> dict[str, Any]:
    """Read the URL as PostgreSQL's own programs do (libpq: psql takes the same).

    ``name`` is the variable's.
    """
    form = "postgres://user:password@host:5432/name"
    if not url.startswith(("postgres://", "postgresql://")):
        raise ImproperlyConfigured(
            f"{name} must name a PostgreSQL database, as in {form}: the shop's guarantees "
            "are PostgreSQL's."
        )
    try:
        parts: dict[str, Any] = dict(conninfo_to_dict(url))
    except psycopg.ProgrammingError as error:
        problem = str(error).strip().replace(url, "it")  # the URL has the password in it
        raise ImproperlyConfigured(
            f"{name} can't be read: {problem}. It must look like {form}; {ENCODE}"
        ) from error
    if not parts.get("dbname"):
        raise ImproperlyConfigured(f"{name} names no database. It must look like {form}")
    port = str(parts.pop("port", ""))
    if not all(
        number.isdecimal() and 0 < int(number) <= MOST_PORT for number in port.split(",") if number
    ):
        raise ImproperlyConfigured(
            f"{name} has a port that is no number from 1 to {MOST_PORT}. It must look like {form}; "
            f"{ENCODE}"
        )
    if "@" in parts.get("host", ""):
        raise ImproperlyConfigured(
            f"{name} has more than one @. It must look like {form}; {ENCODE}"
        )
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.pop("dbname"),
        "USER": parts.pop("user", ""),
        "PASSWORD": parts.pop("password", ""),
        "HOST": parts.pop("host", ""),
        "PORT": port,
        "OPTIONS": {**NOTICE_WHEN_AWAY, **parts},
    }


def _of_checkout(checkout: Path) -> dict[str, Any]:
    home = (checkout / ".postgres").resolve()
    return {
        "ENGINE": embedded_postgres.__name__,
        "HOME": str(home),
        "NAME": embedded_postgres.DATABASE,
        "USER": embedded_postgres.USER,
        "HOST": str(EmbeddedPostgres(home).socket_dir),
        "PORT": str(embedded_postgres.PORT),
    }
