"""The settings of the connections that web processes open."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from shop.deployment import database_timeouts

pytestmark = pytest.mark.django_db


def test_a_web_connection_waits_only_so_long_and_compiles_nothing(settings: Any) -> None:
    settings.LOCK_TIMEOUT = timedelta(seconds=4)
    settings.STATEMENT_TIMEOUT = timedelta(seconds=19)
    settings.IDLE_TRANSACTION_TIMEOUT = timedelta(seconds=18)
    database_timeouts._set_timeouts(connection)
    names = "lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout", "jit"
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_setting(name) FROM unnest(%s::text[]) AS name", [list(names)]
        )
        assert [value for (value,) in cursor.fetchall()] == ["4s", "19s", "18s", "off"]
