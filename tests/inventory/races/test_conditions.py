"""Working out the expressions of statements: what isn't known for certain is unknown."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.db import connection

from inventory.races.conditions import UNKNOWN, is_met, value_of
from inventory.races.tokens import tokens_of

ROW = {
    "id": "7",
    "sku": "MUG",
    "stock": "3",
    "price": "9.90",
    "is_sold": "t",
    "parent": "NULL",
    "note": "39 characters of a text, that was cut h…",
    "seen": "2026-11-28 19:18:42.723228+00",
    "token": "0318a730-9a78-4299-9a6f-f5a11541755c",
    "data": '{"a": 1, "b": [2]}',
}
KNOWN = [
    ("stock < 4 AND stock >= 3", True),
    ("stock > 3 OR sku = 'CUP'", False),
    ("NOT (stock = 3)", False),
    ("stock BETWEEN 3 AND 5", True),
    ("stock NOT BETWEEN 3 AND 5", False),
    ("sku IN ('CUP', 'MUG')", True),
    ("sku NOT IN ('CUP', 'MUG')", False),
    ("sku LIKE 'M_G' AND sku NOT LIKE 'C%'", True),
    ("UPPER(sku::text) LIKE UPPER('%mu%')", True),
    ("parent IS NULL AND sku IS NOT NULL", True),
    ("parent = 1", False),
    ("NOT (parent = 1)", False),
    ("is_sold", True),
    ("NOT is_sold", False),
    ("is_sold IS NOT TRUE", False),
    ("price = 9.9", True),
    ("seen = '2026-11-28 20:18:42.723228+01:00'::timestamptz", True),
    ("seen < '2026-11-28 19:18:43+00:00'::timestamptz", True),
    ("token = '0318a7309a7842999a6ff5a11541755c'::uuid", True),
    ('data = \'{"b": [2], "a": 1}\'::jsonb', True),
    ("stock = 3 OR anything(sku)", True),
    ("stock = 4 AND anything(sku)", False),
    ("COALESCE(parent, 7) = id", True),
    ("CASE WHEN stock > 3 THEN false WHEN stock > 2 THEN true ELSE false END", True),
]
UNKNOWN_CONDITIONS = [
    "anything(sku)",
    "stock = 3 AND anything(sku)",
    "stock = 4 OR anything(sku)",
    "sku < 'Z'",  # many orders of text
    "note = '39 characters of a text, that was cut here'",
    "weight = 3",
    "other.stock = 3",
    "seen::date = '2026-11-28'",
    "EXISTS (SELECT 1)",
    "stock = ANY (ARRAY[3])",
    "stock = 3 garbage",
    "stock = %s",
    "'NaN' < 3",
    "stock = 9e999999 * 9e999999",
]


@pytest.mark.parametrize(("condition", "expected"), KNOWN)
def test_conditions_that_are_known(condition: str, expected: bool) -> None:
    assert is_met(tokens_of(condition), ROW, {None, "mug"}) is expected


@pytest.mark.parametrize("condition", UNKNOWN_CONDITIONS)
def test_conditions_that_are_not_known(condition: str) -> None:
    assert is_met(tokens_of(condition), ROW, {None, "mug"}) is None


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("condition", "expected"), [each for each in KNOWN if "anything" not in each[0]]
)
def test_postgresql_thinks_so_too(condition: str, expected: bool) -> None:
    types = {"sku": "text", "note": "text", "is_sold": "boolean", "price": "numeric"}
    types |= {"seen": "timestamptz", "token": "uuid", "data": "jsonb"}
    columns = [
        f"{'NULL' if value == 'NULL' else repr(value)}::{types.get(column, 'int')} AS {column}"
        for column, value in ROW.items()
    ]
    with connection.cursor() as cursor:
        row = f"(SELECT {', '.join(columns)}) AS mug"
        cursor.execute(f"SELECT coalesce({condition}, false) FROM {row}")
        assert cursor.fetchone() == (expected,)


def test_values() -> None:
    def value(expression: str) -> object:
        return value_of(tokens_of(expression), ROW, {None, "mug"})

    assert value("mug.stock - 1") == Decimal(2)
    assert value("(stock * 2) + id") == Decimal(13)
    assert value("-stock") == Decimal(-3)
    assert value("sku || COALESCE('/' || parent, '')") == "MUG"
    assert value("SUBSTRING(sku, 2, 1)") == "U"
    assert value("CASE WHEN stock > 3 THEN 1 END") is None
    assert value("stock / 2") is UNKNOWN  # of integers or not
    assert value("CASE WHEN anything(sku) THEN 1 ELSE 2 END") is UNKNOWN
