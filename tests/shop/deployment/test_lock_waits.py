"""The texts about sessions that are in one's way."""

from __future__ import annotations

import pytest

from shop.deployment.lock_waits import shorten_query


@pytest.mark.parametrize(
    ("sql", "shortened"),
    [
        (
            "SELECT * FROM a WHERE b = 'O''Hara' OR c = 1.5",
            "SELECT * FROM a WHERE b = … OR c = …",
        ),
        (r"SELECT E'it\'s', $x$ a 'b' $x$, t1.c2", "SELECT …, …, t1.c2"),
        ("SELECT 'cut off", "SELECT …"),
        ("SELECT\n  a", "SELECT a"),
        ("SELECT " + "a, " * 100, ("SELECT " + "a, " * 100)[:99] + "…"),
    ],
)
def test_a_query_is_shortened_without_values(sql: str, shortened: str) -> None:
    assert shorten_query(sql) == shortened
