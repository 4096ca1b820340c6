"""Reading a statement's text: values are values, whatever they contain."""

from __future__ import annotations

import doctest

import pytest
from django.db import connection
from django.db.models import F

from inventory.races import parts, replay, statements, tokens
from inventory.races.parts import Key, Rows, parts_of, rows_named
from inventory.races.server import writing_functions
from inventory.races.statements import (
    assignments,
    functions_in,
    in_short,
    kind_of,
    normalised,
    plain,
    target,
)
from inventory.races.tokens import content_of, tokens_of
from tests.inventory.races.models import Mug, Sale

KEYS = {"t": Key("id", "int8"), "s": Key("code", "text"), "u": Key("id", "uuid")}
A_UUID = "0318a730-9a78-4299-9a6f-f5a11541755c"


@pytest.mark.parametrize(
    ("sql", "table", "keys"),
    [
        ('SELECT "t"."id", "t"."a" FROM "t" WHERE "t"."id" = 5 LIMIT 21', "t", {"5"}),
        ("SELECT u0.a FROM t u0 WHERE u0.id IN (5, -6) ORDER BY a FOR UPDATE", "t", {"5", "-6"}),
        ("SELECT COUNT(*) FROM t WHERE (a > 1 AND (id = 5 AND NOT (b = 'c OR d')))", "t", {"5"}),
        ("SELECT 1 FROM public.t WHERE id = '05'::bigint", "t", {"5"}),
        ("SELECT 1 FROM t WHERE id = 5 /* OR true */ -- OR true", "t", {"5"}),
        ("SELECT 1 FROM s WHERE code = 'it''s'", "s", {"it's"}),
        ("SELECT 1 FROM s WHERE code = '05'", "s", {"05"}),
        ("SELECT 1 FROM s WHERE code =  E'a\\\\b\\'c'", "s", {"a\\b'c"}),
        (f"SELECT 1 FROM u WHERE id = '{A_UUID.replace('-', '')}'::uuid", "u", {A_UUID}),
        ("UPDATE t SET a = 'x WHERE id = 6', b = (b + 1) WHERE id = 5 RETURNING b", "t", {"5"}),
        ("DELETE FROM t WHERE t.id IN (1)", "t", {"1"}),
        ("INSERT INTO t (id, a) VALUES (5, 'x, (y)'), (6, NULL) RETURNING t.id", "t", {"5", "6"}),
    ],
)
def test_rows_that_a_statement_names(sql: str, table: str, keys: set[str]) -> None:
    assert rows_named(sql, KEYS) == Rows(table, frozenset(keys))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1 FROM t",
        "SELECT 1 FROM t WHERE a = 5",
        "SELECT 1 FROM t WHERE a = 'id = 5'",
        "SELECT 1 FROM t WHERE id = 5 OR a = 1",
        "SELECT 1 FROM t WHERE a = 1 AND id = 5 OR a = 2",
        "SELECT 1 FROM t WHERE NOT id = 5",
        "SELECT 1 FROM t WHERE NOT (id = 5)",
        "SELECT 1 FROM t WHERE id = 5 + 1",
        "SELECT 1 FROM t WHERE id >= 5",
        "SELECT 1 FROM t WHERE id NOT IN (5)",
        "SELECT 1 FROM t WHERE id = %s",
        "SELECT 1 FROM t WHERE id IN (5, a)",
        "SELECT 1 FROM t WHERE a BETWEEN 1 AND id = 5",
        "SELECT 1 FROM t WHERE CASE WHEN a AND id = 5 AND b THEN true ELSE true END",
        "SELECT 1 FROM t, s WHERE id = 5",
        "SELECT 1 FROM t JOIN s ON true WHERE id = 5",
        "SELECT 1 FROM t WHERE id = 5 UNION SELECT 1 FROM t",
        "SELECT 1 FROM t WHERE id = 5 AND EXISTS (SELECT 1 FROM s)",
        "SELECT anything(a) FROM t WHERE id = 5",
        "SELECT 1 FROM t WHERE id = 5; DELETE FROM t",
        "UPDATE t SET a = 1 WHERE id = 5 RETURNING a; TRUNCATE t",
        "SELECT 1 FROM s WHERE code = U&'d\\0061t'",
        "WITH x AS (DELETE FROM t WHERE id = 5 RETURNING a) SELECT a FROM x WHERE id = 5",
        "UPDATE t SET id = 7 WHERE id = 5",
        "UPDATE t SET (id, a) = (7, 1) WHERE id = 5",
        "UPDATE t SET a = 1 FROM s WHERE id = 5",
        "UPDATE t SET a = 1 WHERE id = 5 (many)",
        "DELETE FROM t USING s WHERE id = 5",
        "INSERT INTO t (a) VALUES (1)",
        "INSERT INTO t (id) VALUES (DEFAULT)",
        "INSERT INTO t (id, a) VALUES (5, 1) ON CONFLICT (a) DO UPDATE SET a = 2",
        "INSERT INTO t (id, a) VALUES (%s, %s) (many)",
        "INSERT INTO t (id) SELECT 5",
        "SELECT 1 FROM other WHERE id = 5",
        "LOCK TABLE t",
        "",
    ],
)
def test_where_the_text_does_not_tell_for_certain(sql: str) -> None:
    assert rows_named(sql, KEYS) is None


def test_an_insert_tells_by_the_row_that_it_returned() -> None:
    insert = "INSERT INTO t (a) VALUES (1) RETURNING id"
    assert rows_named(insert, KEYS, [{"id": "9"}]) == Rows("t", frozenset({"9"}))
    long_key = [{"code": "39 characters of a key, that was cut here…"}]
    assert rows_named("INSERT INTO s (a) VALUES (1)", KEYS, long_key) is None
    assert rows_named("SELECT id FROM t WHERE a = 1", KEYS, [{"id": "9"}]) is None


@pytest.mark.django_db(transaction=True)
def test_the_steps_of_a_run_know_their_rows() -> None:
    def mug() -> None:
        Mug.objects.all().delete()
        Mug.objects.create(pk=7, sku="MUG", stock=1)

    def by_key() -> None:
        Mug.objects.get(pk=7)
        Mug.objects.filter(pk=7).update(stock=F("stock") - 1)
        mine = Sale.objects.create(sku="MUG")
        Sale.objects.filter(pk=mine.pk).delete()

    def by_name() -> None:
        Mug.objects.get(sku="MUG")
        Mug.objects.filter(sku="MUG").update(stock=3)

    run = replay("A*5 B*2", [by_key, by_name], setup=mug)
    named = [step.named for step in run.steps]
    mug_7 = Rows("race_models_mug", frozenset({"7"}))
    assert named[:2] == [mug_7, mug_7]
    assert named[2] is not None
    assert named[2].table == "race_models_sale"
    assert named[3] == named[2]  # the row that it had added
    assert named[4:] == [None, None, None]  # COMMIT, and two that name no key
    assert [step.only_concerns for step in run.steps] == named


# Values in quotes


@pytest.mark.parametrize(
    ("sql", "shown"),
    [
        ("""UPDATE "t" SET "a" = 'say "hi"'""", """UPDATE t SET a = 'say "hi"'"""),
        ("UPDATE t SET a = 'it''s \"so\"'", "UPDATE t SET a = 'it''s \"so\"'"),
        ("UPDATE t SET a =  E'c:\\\\x.y \"z\"'", "UPDATE t SET a = E'c:\\\\x.y \"z\"'"),
        ("UPDATE t SET a = 'one\r\ntwo  three'", "UPDATE t SET a = 'one↵two  three'"),
        (
            'SELECT "t"."a" FROM "t" WHERE "t"."b" = \'t.b, (1.5)\'',
            "SELECT a FROM t WHERE b = 't.b, (1.5)'",
        ),
        ('SELECT "two words" FROM "t"', 'SELECT "two words" FROM t'),
        ("UPDATE t SET a = ' RETURNING ' RETURNING a", "UPDATE t SET a = ' RETURNING '"),
        ("SELECT a FROM t WHERE b = ' LIMIT 21' LIMIT 21", "SELECT a FROM t WHERE b = ' LIMIT 21'"),
        ("SELECT ' FROM x', a, b, c, d, e, f, g, h, i, j, k FROM t", "SELECT … FROM t"),
        ("INSERT INTO t (a) VALUES ('INTO (')", "INSERT INTO t …"),
        (
            "SELECT a FROM t WHERE (a = 'b (c AND d' AND (b = 1))",
            "SELECT a FROM t WHERE a = 'b (c AND d' AND b = 1",
        ),
        (
            "SELECT a FROM t WHERE NOT (a = 1 AND b = 2)",
            "SELECT a FROM t WHERE NOT (a = 1 AND b = 2)",
        ),
        (
            "SELECT a FROM t WHERE (a = 1 OR b = 2) AND c = 3",
            "SELECT a FROM t WHERE (a = 1 OR b = 2) AND c = 3",
        ),
        ("UPDATE t SET a = ((a - 1) * 2)", "UPDATE t SET a = ((a - 1) * 2)"),
        (
            "WITH x AS (UPDATE t SET a = (a - 1) WHERE a >= 1 RETURNING a) "
            "INSERT INTO u (b) SELECT 1 FROM x",
            "UPDATE t SET a = a - 1 WHERE a >= 1; INSERT INTO u …",
        ),
    ],
)
def test_a_statement_in_short_keeps_its_values(sql: str, shown: str) -> None:
    assert in_short(sql) == shown


def test_values_are_not_taken_for_parts_of_a_statement() -> None:
    assert assignments(
        "UPDATE t SET a = 'x SET b = 1 WHERE c, d = (', e = '2026-11-28'::date, f = (f + 1) "
        "WHERE g = 1"
    ) == [("a", "'x SET b = 1 WHERE c, d = ('"), ("e", "'2026-11-28'::date"), ("f", "f + 1")]
    assert target("SELECT ' FROM other', EXTRACT(YEAR FROM b) FROM t") == "t"
    assert target("INSERT INTO public.t (a) VALUES ('INTO u')") == "t"
    assert kind_of("SELECT 'nextval(x) FOR UPDATE' FROM t").value == "read"
    assert kind_of("SELECT E'it\\'s FOR UPDATE' FROM t").value == "read"
    assert kind_of('SELECT "for", "update" FROM t').value == "read"
    assert kind_of("WITH x AS (SELECT 'DELETE FROM t' FROM t) SELECT 1 FROM x").value == "read"
    assert normalised("SELECT  'a  b s12_x1'\n FROM  t") == "SELECT 'a  b s12_x1' FROM t"
    assert plain("SELECT 1.5, t.* FROM t -- why") == "SELECT 1.5, t.* FROM t"


def test_the_tables_of_a_statement() -> None:
    def sources(sql: str) -> dict[str, set[str]]:
        return {table: set(names) for table, names in parts_of(sql).sources.items()}

    joined = "SELECT 1 FROM a LEFT OUTER JOIN public.b AS T3 ON (f(a.id, c) = T3.id) WHERE a.id = 1"
    assert sources(joined) == {"a": {"a"}, "b": {"t3"}}
    assert sources("SELECT 1 FROM a, b x WHERE a.id = x.id") == {"a": {"a"}, "b": {"x"}}
    assert sources("SELECT COUNT(*) FROM (SELECT id FROM a WHERE b = 1) subquery") == {}
    assert sources("SELECT 1 FROM a UNION SELECT 1 FROM b WHERE c = 1") == {"a": {"a"}}
    assert sources("DELETE FROM a WHERE id IN (SELECT a_id FROM b)") == {"a": {"a"}}


def test_the_examples_in_the_code() -> None:
    for module in (statements, tokens, parts):
        assert doctest.testmod(module).failed == 0


# Tokens


@pytest.mark.django_db
@pytest.mark.parametrize(
    "value", ["a'b", 'say "hi"', "a\\b'c", "x\ny", " SET a = 1 WHERE ", "f(x, y) -- ;", "", "50 %"]
)
def test_a_value_is_one_token_however_it_is_written(value: str) -> None:
    sql = connection.ops.compose_sql("SELECT %s::text", [value])  # type: ignore[attr-defined]
    tokens = tokens_of(sql)
    assert [token.text for token in tokens[:1] + tokens[2:]] == ["SELECT", "::", "text"]
    assert content_of(tokens[1]) == value
    assert tokens_of(f"$x${value}$x$")[0].text == f"$x${value}$x$"


def test_a_function_writes_if_one_that_it_calls_does() -> None:
    functions = [
        ("book", "BEGIN PERFORM log('booked'); END"),
        ("log", "SELECT 1"),
        ("log", "INSERT INTO entry VALUES ($1)"),  # of the same name, for other arguments
        ("loop", "SELECT loop()"),
        ("total", "SELECT sum(price) FROM ticket"),
    ]
    found = writing_functions(functions)
    assert found.keys() == {"book", "log"}
    assert "entry" in found["book"]
    assert functions_in("SELECT BOOK(1), \"Total\" (2), 'log(3)'") == {"book", "Total"}
