"""`manage.py` as people run it: a process of its own, on the test's database."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg
from django.db import connection

from shop.deployment.database import url_of

ROOT = Path(__file__).resolve().parent.parent


def start(
    *arguments: str,
    database: str | None = None,
    more: Mapping[str, str] | None = None,
    **options: Any,
) -> subprocess.Popen[str]:
    """Start ``manage.py`` with these arguments, and capture its output as text.

    ``database`` is its DATABASE_URL, by default that of the test's database, and ``more`` are other
    variables.
    """
    return subprocess.Popen(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env={**environment(database), **(more or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def environment(database: str | None = None) -> dict[str, str]:
    """The environment of a program that works on this database, by default the test's."""
    inherited = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    return {**inherited, "DATABASE_URL": database or database_url()}


def psql(sql: str) -> None:
    """Run SQL on a connection of its own, as a person with a database client does."""
    with psycopg.connect(database_url().replace("postgres:", "postgresql:")) as other:
        other.autocommit = True
        other.execute(sql)


def database_url() -> str:
    """The URL of the test's database."""
    return url_of(connection.settings_dict)
