"""What Django's system checks say about the database server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Tags, register
from django.db import connections


@register(Tags.database)
def database_answers(databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Connect, so that ``check --database`` finds out. An OperationalError is told as any other."""
    for alias in databases or ():
        connections[alias].ensure_connection()
    return []
