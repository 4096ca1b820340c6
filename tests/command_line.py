"""`manage.py` as people run it: a process of its own, on the test's database."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
from django.db import connection

from shop.database import url_of

ROOT = Path(__file__).resolve().parent.parent


def start(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start ``manage.py`` with these arguments; its output is captured as text."""
    return subprocess.Popen(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def environment() -> dict[str, str]:
    """That of a program that shall work on the test's database."""
    return {**os.environ, "DATABASE_URL": database_url()}


def psql(sql: str) -> None:
    """Run SQL as somebody with a client of the database does: on a connection that isn't ours."""
    with psycopg.connect(database_url().replace("postgres:", "postgresql:")) as other:
        other.autocommit = True
        other.execute(sql)


def database_url() -> str:
    """Where the test's database is."""
    return url_of(connection.settings_dict)
