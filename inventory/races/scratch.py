"""A database for one run only: made on the same server, and dropped at the end."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator

from django.core.management import call_command
from django.db import DatabaseError, connections
from psycopg import sql

from .errors import Misuse
from .server import check_direct, check_vendor
from .session import sqlstate_of

PREFIX = "races_"
INSUFFICIENT_PRIVILEGE = "42501"


@contextlib.contextmanager
def scratch_database(using: str = "default") -> Iterator[str]:
    """Point the connection ``using`` to a new, migrated database; drop it at the end.

    Its name is unique. It is dropped however the body ends. Raises Misuse if the role may not
    create databases, if the server isn't PostgreSQL or doesn't answer, if a pooler is in between,
    or if a migration fails.
    """
    check_vendor(using, "A scratch database can only be made on PostgreSQL.")
    check_answering(using)
    check_direct(using)
    name = f"{PREFIX}{os.getpid()}_{secrets.token_hex(4)}"
    before = connections[using].settings_dict["NAME"]
    database = sql.Identifier(name)
    try:
        create(using, database)
        switch(using, name)
        migrate(using)
        yield name
    finally:
        switch(using, before)
        execute(using, sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(database))


def check_answering(using: str) -> None:
    """Raise Misuse if nobody can connect."""
    try:
        connections[using].ensure_connection()
    except DatabaseError as error:
        raise Misuse(f"The database “{using}” doesn't answer: {first_line(error)}") from error


def migrate(using: str) -> None:
    """Make all tables, also of apps without migrations. Raises Misuse if a migration fails."""
    try:
        call_command("migrate", database=using, verbosity=0, interactive=False, run_syncdb=True)
    except Exception as error:
        raise Misuse(
            f"The migrations fail on an empty database: {type(error).__name__}: {first_line(error)}"
        ) from error


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0]


def create(using: str, database: sql.Identifier) -> None:
    try:
        execute(using, sql.SQL("CREATE DATABASE {}").format(database))
    except DatabaseError as error:
        if sqlstate_of(error) != INSUFFICIENT_PRIVILEGE:
            raise
        raise Misuse(
            "A database of its own is needed, and this database role may not create one. "
            "Give it the right: ALTER ROLE … CREATEDB."
        ) from error


def switch(using: str, name: str) -> None:
    """Send all new connections of ``using``, in all threads, to the database ``name``."""
    connections[using].close()
    connections[using].settings_dict["NAME"] = name
    connections.settings[using]["NAME"] = name


def execute(using: str, statement: sql.Composed) -> None:
    """Execute a statement outside of any transaction, on a connection of its own."""
    server = connections[using].copy()
    try:
        with server.cursor() as cursor:
            cursor.execute(statement)
    finally:
        server.close()
