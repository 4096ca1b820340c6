"""Transcripts for readers: the lanes, the values, the waits, and the sentence."""

from __future__ import annotations

import pytest
from django.db import connection, transaction
from django.db.models import F

from inventory.races import explore, replay, report, story, transcript
from inventory.races.statements import assignments, in_short, kind_of, normalised
from tests.inventory.races.models import Mug
from tests.inventory.races.test_counts import (
    conditional_update,
    in_a_transaction,
    locked,
    one_mug,
    sells_at_most_one,
)

pytestmark = pytest.mark.django_db(transaction=True)


def mug_with_a_fixed_key() -> None:
    one_mug()
    Mug.objects.update(id=7)


def test_a_story_with_waits() -> None:
    run = replay(
        "A B A*3 B",
        [locked, locked],
        setup=mug_with_a_fixed_key,
        describe=lambda: f"stock {Mug.objects.get().stock}",
    )
    assert transcript.as_text(run, width=140) == (
        """\
holds  A B A*3 B  (1 preemption)
  before: stock 1
   1 A │ SELECT id, sku, stock FROM race_models_mug WHERE sku = 'MUG' FOR UPDATE        → stock=1
   2       B │ SELECT id, sku, stock FROM race_models_mug WHERE sku = 'MUG' FOR UPDATE  \
<waiting on A: row lock on race_models_mug>
   3 A │ UPDATE race_models_mug SET sku = 'MUG', stock = 0 WHERE id = 7                 → 1 row
   4 A │ INSERT INTO race_models_sale …                                                 → 1 row
   5 A │ COMMIT
  2'       B │ <… completed> SELECT                                                     → stock=0
   6       B │ ROLLBACK
  after:  stock 0
  A returned None; B raised SoldOut
  B had to wait for A (row lock on race_models_mug), and then read stock = 0."""
    )


def test_on_a_narrow_terminal_columns_are_left_out_and_outcomes_are_not() -> None:
    run = replay("A B A*3 B", [locked, locked], setup=mug_with_a_fixed_key)
    text = transcript.as_text(run, width=80)
    assert "SELECT … FROM race_models_mug WHERE sku = 'MUG' FOR UPDATE" in text
    assert "SELECT id, sku, " not in text
    assert "→ stock=0" in text
    assert "<waiting on A: row lock on race_models_mug>" in text


def test_a_condition_that_no_longer_holds() -> None:
    run = replay("A B A*2 B", [conditional_update] * 2, setup=one_mug)
    assert story.describe_run(run) == (
        "B had to wait for A (row lock on race_models_mug), and then found no row that met its "
        "condition any more."
    )


def test_a_stale_check() -> None:
    def sell() -> None:
        if Mug.objects.get().stock >= 1:
            Mug.objects.update(stock=F("stock") - 1)

    result = explore(
        [sell, sell], setup=one_mug, invariant=lambda run: Mug.objects.get().stock >= 0
    )
    assert result.shortest is not None
    assert story.anomalies(result.shortest) == [story.STALE_CHECK]
    assert story.describe_run(result.shortest) == (
        "A read stock = 1 (line 1) before B's write (line 3), and still set stock to stock - 1 "
        "(line 4): what it had read was no longer true."
    )


def test_a_write_skew() -> None:
    """Two on call, and each goes off duty since the other is still on."""

    def two() -> None:
        Mug.objects.all().delete()
        Mug.objects.create(sku="X", stock=1)
        Mug.objects.create(sku="Y", stock=1)

    def go_off(mine: str) -> None:
        with transaction.atomic():
            if Mug.objects.filter(stock=1).count() == 2:
                Mug.objects.filter(sku=mine).update(stock=0)

    result = explore(
        [lambda: go_off("X"), lambda: go_off("Y")],
        setup=two,
        invariant=lambda run: Mug.objects.filter(stock=1).exists(),
    )
    assert result.shortest is not None
    assert result.shortest.preemptions == 1
    assert story.findings(result.shortest)


def test_a_deadlock_and_a_serialization_failure() -> None:
    def sell(*skus: str) -> None:
        with transaction.atomic():
            for sku in skus:
                Mug.objects.filter(sku=sku).update(stock=1)

    def two() -> None:
        Mug.objects.all().delete()
        Mug.objects.create(sku="X", stock=5)
        Mug.objects.create(sku="Y", stock=5)

    run = replay("A B A B", [lambda: sell("X", "Y"), lambda: sell("Y", "X")], setup=two)
    assert story.anomalies(run) == [story.DEADLOCKED]
    assert "ended B's transaction (deadlock detected, 40P01)." in story.describe_run(run)
    assert "→ ERROR 40P01 deadlock detected" in transcript.as_text(run)

    run = replay("A*3 B*2 A", [in_a_transaction] * 2, setup=one_mug, isolation="serializable")
    assert story.anomalies(run) == [story.REFUSED]


def test_a_violated_constraint() -> None:
    def create() -> None:
        if not Mug.objects.filter(sku="NEW").exists():
            Mug.objects.create(sku="NEW", stock=1)

    result = explore([create, create], setup=one_mug)
    assert result.shortest is not None
    assert story.anomalies(result.shortest) == [story.CONSTRAINT]
    assert "duplicate key value violates unique constraint" in story.describe_run(result.shortest)


def test_json_has_every_line() -> None:
    result = explore([in_a_transaction] * 2, setup=one_mug, invariant=sells_at_most_one)
    data = result.as_dict()
    assert (data["schedules"], data["broken"], data["exhaustive"]) == (24, 22, True)
    lines = data["shortest"]["lines"]
    assert [line["session"] for line in lines] == list("ABBBBAAA")
    assert lines[0]["sql"].startswith('SELECT "race_models_mug"."id"')


def test_the_drawing_shows_transactions_and_waits() -> None:
    run = replay("A B A*3 B", [locked, locked], setup=one_mug)
    drawing = report.drawing_of(run, "two buyers")
    bars = {(bar.kind, bar.lane): (bar.first, bar.last) for bar in drawing.bars}
    assert bars == {
        ("transaction", 0): (1, 5),
        ("transaction", 1): (2, 7),
        ("waiting", 1): (2, 6),
    }


def test_a_page_escapes_what_it_shows() -> None:
    def hostile() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT '<script>alert(1)</script>' FROM race_models_mug")

    result = explore([hostile, hostile], setup=one_mug)
    page = report.result_as_html(result, title="<b>title</b>")
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "<b>title" not in page


def test_notes_are_shown_wherever_the_result_is() -> None:
    result = explore([in_a_transaction] * 2, setup=one_mug, invariant=sells_at_most_one)
    assert result.notes == []
    for _ in range(2):
        result.note("Ann's mug is <blue>.")
    assert result.failure(result.broken).splitlines()[-1] == "Note: Ann's mug is <blue>."
    assert result.as_dict()["notes"] == ["Ann's mug is <blue>."]
    page = report.result_as_html(result, title="mugs")
    assert page.count("<b>Note:</b> Ann&#x27;s mug is &lt;blue&gt;.") == 1
    result.note("It is " + "very " * 20 + "blue.")
    lines = result.failure(result.broken, width=60).splitlines()[-2:]
    assert lines == ["Note: It is" + " very" * 9, "very " * 11 + "blue."]


# Reading the text of a statement


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ('SELECT "a" FROM "t"', "read"),
        ("SELECT a FROM t WHERE b = 'FOR UPDATE'", "read"),
        ("SELECT a FROM t FOR NO KEY UPDATE", "lock"),
        ("SELECT pg_advisory_xact_lock(1)", "other"),
        ("WITH x AS (UPDATE t SET a = 1 RETURNING a) SELECT a FROM x", "write"),
        ("WITH x AS (SELECT a FROM t FOR UPDATE) SELECT a FROM x", "lock"),
        ("INSERT INTO t (a) VALUES (1)", "write"),
        ('SAVEPOINT "s1_x1"', "local"),
        ('ROLLBACK TO SAVEPOINT "s1_x1"', "other"),
        ("COMMIT", "commit"),
        ("LOCK TABLE t", "other"),
        ("CREATE INDEX i ON t (a)", "other"),
    ],
)
def test_kinds_of_statements(sql: str, kind: str) -> None:
    assert kind_of(sql).value == kind


def test_texts_of_statements() -> None:
    assert normalised('RELEASE SAVEPOINT "s140050513786560_x12"') == 'RELEASE SAVEPOINT "s_x12"'
    assert in_short('INSERT INTO "t" ("a", "b") VALUES (1, 2) RETURNING "t"."id"') == (
        "INSERT INTO t …"
    )
    assert in_short('SELECT "t"."a" FROM "t" WHERE ("t"."a" = 1 AND "t"."b" = \'x.y\')') == (
        "SELECT a FROM t WHERE a = 1 AND b = 'x.y'"
    )
    assert assignments('UPDATE "t" SET "a" = ("t"."a" - 1), "b" = \'x, y\' WHERE 1 = 1') == [
        ("a", "a - 1"),
        ("b", "'x, y'"),
    ]
