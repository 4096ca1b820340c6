"""Long transcripts, narrow terminals, and what a reader must not have to read twice."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from rich.cells import cell_len

from inventory.races import explore, report, story, transcript
from inventory.races.folding import MOST, UNFOLDED, Fold, folded
from inventory.races.result import Run
from inventory.races.session import Step
from inventory.races.shortening import cut, cut_to_fit, fitted, short_names, visible
from tests.inventory.races.made import (
    checkout,
    in_turns,
    made_result,
    made_run,
    made_step,
    two_checkouts,
    wait_for,
)
from tests.inventory.races.models import Mug, Voucher
from tests.inventory.races.test_counts import one_mug


def rows_of(text: str) -> list[str]:
    """The rows of a transcript that are in a lane."""
    return [row for row in text.splitlines() if "│" in row]


def labels_of(text: str) -> list[str]:
    """The numbers of its lines."""
    return [word for row in rows_of(text) if (word := row.split()[0])[0].isdigit()]


def select(session: str, number: int) -> Step:
    return made_step(session, f"SELECT a FROM t WHERE id = {number}", rows=1)


# Folding


@pytest.mark.parametrize("width", [60, 80, 160])
def test_a_transcript_of_74_lines_is_fewer_than_20(width: int) -> None:
    run = two_checkouts()
    text = transcript.as_text(run, width=width)
    assert len(labels_of(transcript.as_text(run, width=width, full=True))) == 74
    assert len(labels_of(text)) < MOST
    assert len(rows_of(text)) < 20
    # Ann's read, Bob's write and COMMIT, Ann's write over it and COMMIT
    assert {"1", "55", "57", "72", "74"} <= set(labels_of(text))


def test_folds_say_which_lines_they_stand_for() -> None:
    """Every line is there: shown, or counted by a fold."""
    lines = transcript.lines(two_checkouts())
    rows = folded(lines, {1, 72})
    counted = [
        line.label for row in rows for line in (row.lines if isinstance(row, Fold) else [row])
    ]
    assert counted == [str(number) for number in range(1, 75)]
    assert [row.in_words() if isinstance(row, Fold) else row.label for row in rows] == [
        "1",
        "… 19 more lines (2 to 20)",
        "… 36 more lines (21 to 56)",
        "57",
        "… 14 more lines (58 to 71)",
        "72",
        "73",
        "74",
    ]


def test_turns_of_several_sessions_are_one_fold() -> None:
    sessions = [[select(name, place) for place in range(10)] for name in ("Ann", "Bob", "Cem")]
    rows = folded(transcript.lines(made_run(in_turns(*sessions))), {1})
    assert [row.in_words() for row in rows if isinstance(row, Fold)] == [
        "… 10 more lines of Bob, 9 of Cem and 9 of Ann (2 to 29)"
    ]


def test_waits_and_errors_are_not_folded() -> None:
    waiting = made_step("Bob", "UPDATE t SET a = 1 WHERE id = 1", wait=wait_for("Ann"))
    failing = made_step("Ann", "INSERT INTO t (a) VALUES (1)", sqlstate="23505", error="duplicate")
    run = made_run(
        [
            *(select("Ann", place) for place in range(10)),
            waiting,
            *(select("Ann", place) for place in range(10)),
            failing,
            waiting,
            *(select("Ann", place) for place in range(10)),
        ]
    )
    rows = folded(transcript.lines(run), {1})
    shown = [row.label for row in rows if not isinstance(row, Fold)]
    assert shown == ["1", "11", "22", "11'", "32"]


def test_many_waits_are_counted_where_there_is_no_room_for_them() -> None:
    waits = [
        made_step("Bob", f"UPDATE t SET a = {place} WHERE id = 1", wait=wait_for("Ann"))
        for place in range(30)
    ]
    run = made_run([step for wait in waits for step in (wait, wait)])
    rows = folded(transcript.lines(run), {1})
    assert len(rows) <= MOST
    folds = [row for row in rows if isinstance(row, Fold)]
    assert sum(line.tone == "wait" for fold in folds for line in fold.lines) > 0
    assert all(" waits)" in fold.in_words() for fold in folds)


def test_a_session_that_commits_often_is_folded_all_the_same() -> None:
    steps = [
        step
        for place in range(40)
        for step in (select("Ann", place), made_step("Ann", "COMMIT"), select("Bob", place))
    ]
    rows = folded(transcript.lines(made_run(steps)), {1})
    assert len(rows) <= MOST


def test_without_a_sentence_the_lines_on_shared_tables_are_shown() -> None:
    own = [select("Ann", place) for place in range(30)]
    read = made_step("Ann", "SELECT stock FROM mug WHERE id = 1", rows=1)
    write = made_step("Bob", "UPDATE mug SET stock = 0 WHERE id = 1")
    run = made_run([*own[:10], read, *own[10:20], write, *own[20:]])
    shown = [row.label for row in folded(transcript.lines(run), set()) if not isinstance(row, Fold)]
    assert shown == ["1", "11", "22", "32"]


@pytest.mark.parametrize(("number", "is_folded"), [(UNFOLDED, False), (UNFOLDED + 1, True)])
def test_a_short_transcript_is_shown_whole(number: int, is_folded: bool) -> None:
    run = made_run(select("Ann", place) for place in range(number))
    assert transcript.is_folded(run) == is_folded


def test_a_transcript_is_whole_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    run = two_checkouts()
    result = made_result([run])
    assert len(labels_of(result.transcript())) < 20
    assert len(labels_of(result.transcript(full=True))) == 74
    assert "To see all 74 lines: RACES_FULL=1, or pytest --races-full" in result.failure([run])
    monkeypatch.setenv("RACES_FULL", "1")
    assert len(labels_of(result.failure([run]))) == 74
    assert "To see all" not in result.failure([run])


def test_the_page_has_all_lines_and_needs_no_script() -> None:
    page = report.result_as_html(made_result([two_checkouts()]), title="Two checkouts")
    assert "Show all 74 lines" in page
    assert page.count('<div class="label') == 74
    assert "<script" not in page
    # Lines 1, 55 to 57, and 72 to 74 are shown.
    assert page.count('<div class="label folded"') == page.count(' folded"\n') == 34 + 19 + 14
    drawing = report.drawing_of(two_checkouts(), "")
    [ann, bob] = drawing.bars
    rows = {row.number: row for row in drawing.rows}
    assert (ann.first, rows[ann.last].shown) == (1, drawing.rows[-1].shown)
    # Bob's transaction begins in a fold, and is drawn from there.
    assert rows[bob.first].fold == "… 34 more lines (21 to 54)"
    short = report.result_as_html(made_result([made_run([select("A", 1)])]), title="Short")
    assert "Show all" not in short


def test_json_has_all_lines_and_says_which_are_folded() -> None:
    lines = transcript.as_dict(two_checkouts())["lines"]
    assert len(lines) == 74
    assert lines[0]["folded"] is False
    assert lines[10]["folded"] is True


# Nothing twice


def with_explanation(first: str) -> str:
    """An assert's message, as pytest makes it."""
    return f"{first}\n +  where 2 = count()\n +    where count = <bound method>"


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (with_explanation("assert 2 <= 1"), "The invariant does not hold: assert 2 <= 1"),
        (with_explanation("sold 2 of 1\nassert 2 <= 1"), "sold 2 of 1"),
    ],
)
@pytest.mark.parametrize("schedule", ["serial", "race"])
def test_an_assert_is_told_once_and_without_explanation(
    broken: str, said: str, schedule: str
) -> None:
    steps = [select("Ann", 1), select("Bob", 1), select("Ann", 2)]
    run = made_run(steps[:2] if schedule == "serial" else steps, broken=broken)
    failure = " ".join(made_result([run]).failure([run]).split())
    assert failure.count(said) == 1
    assert "where" not in failure
    page = report.result_as_html(made_result([run]), title="")
    assert page.count(said.replace("<", "&lt;")) == 1
    assert "where 2" not in page


def test_no_line_is_told_twice() -> None:
    state = "available 0 + sold 2: oversold 1"
    run = made_run(
        [select("Ann", 1), select("Bob", 1), select("Ann", 2)],
        broken=state,
        before="available 1 + sold 0",
        after=state,
    )
    failure = made_result([run]).failure([run])
    assert failure.count(state) == 1
    page = report.result_as_html(made_result([run]), title="")
    assert page.count(state) == 1


def test_what_a_session_raised_is_told_in_a_line() -> None:
    explained = f"AssertionError: {with_explanation('assert 2 == 1')}"
    run = made_run([select("A", 1)], results={"A": explained})
    assert "A returned AssertionError: assert 2 == 1" in transcript.as_text(run, width=80)
    assert "where" not in transcript.as_text(run, width=80)


# Without any race


def serial_run(*names: str, broken: str | None = "sold 2 of 1") -> Run:
    steps = [select(name, place) for name in names for place in range(2)]
    return made_run(steps, broken=broken, preemptions=0)


def test_a_serial_order_that_breaks_is_said_first() -> None:
    runs = [serial_run("Ann", "Bob"), serial_run("Bob", "Ann"), two_checkouts()]
    failure = made_result(runs).failure(runs)
    assert failure.startswith(
        "This breaks without any race: Ann, then Bob; and Bob, then Ann.\n"
        "3 of 3 schedules are broken (exhaustive). The shortest:\n\n"
        "BROKEN  Ann*2 Bob*2  (one after the other)  sold 2 of 1\n"
    )
    assert failure.count("without any race") == 1
    assert made_result(runs).serial_broken == runs[:2]
    assert story.anomalies(runs[0]) == [story.NO_RACE]
    assert "This breaks without any race: Ann, then Bob." in transcript.as_text(runs[0], width=80)


@pytest.mark.parametrize("options", [{"reduce": True}, {"reduce": True, "first": True}, {}])
def test_a_serial_order_that_was_left_out_is_tried(options: dict[str, Any]) -> None:
    """B, then A is as good as A*1 B A*1, so ``reduce`` performs only one of them."""

    def look_and_write() -> None:
        Voucher.objects.count()
        Mug.objects.update(stock=1)

    result = explore(
        {"A": look_and_write, "B": lambda: Mug.objects.update(stock=2)},
        setup=one_mug,
        invariant=lambda run: Mug.objects.get().stock == 2,
        **options,
    )
    [serial] = result.serial_broken
    assert serial.order == ("B", "A")
    assert result.shortest is serial
    assert result.failure(result.broken).startswith("This breaks without any race: B, then A.\n")
    assert "BROKEN  B A*2  (one after the other)" in result.failure(result.broken)
    assert serial not in result.runs
    assert result.replay(serial).broken


def test_it_is_not_said_of_what_only_a_race_breaks() -> None:
    runs = [serial_run("Ann", "Bob", broken=None), two_checkouts()]
    assert "without any race" not in made_result(runs).failure(runs[1:])
    assert made_result(runs).serial_broken == []


def test_more_orders_than_two_are_counted() -> None:
    runs = [serial_run(*names) for names in itertools.permutations(["Ann", "Bob", "Cem"])]
    assert (
        made_result(runs)
        .failure(runs)
        .startswith(
            "This breaks without any race: Ann, then Bob, then Cem; and in 5 other orders.\n"
        )
    )


def test_the_summary_of_a_result() -> None:
    result = made_result([serial_run("Ann", "Bob", broken=None)])
    assert result.summary == "1 schedule, 0 broken (exhaustive)."
    result.add(two_checkouts(), None)
    result.add(made_run([select("A", 1)], is_serializable=False), None)
    result.note("Ann read the clock (shop/views.py:12).")
    assert result.summary == (
        "3 schedules, 1 broken, 1 like no serial order (exhaustive).\n"
        "Note: Ann read the clock (shop/views.py:12)."
    )


# Narrow terminals


LONG = [
    "customer_number_one_pays",
    "customer_number_two_pays",
    "the_nightly_sweep",
    "refund",
    "Zoë",
]


@pytest.mark.parametrize("names", [LONG[:2], LONG, [chr(ord("A") + n) for n in range(12)]])
@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("full", [False, True])
def test_no_row_is_wider_than_the_terminal(names: list[str], width: int, full: bool) -> None:
    steps = in_turns(*(checkout(name, number) for number, name in enumerate(names)))
    waiting = made_step(names[0], "UPDATE shop_mug SET stock = 1", wait=wait_for(names[1]))
    failing = made_step(names[1], "COMMIT", sqlstate="23505", error=f"duplicate key {'x' * 100}")
    run = made_run([waiting, *steps, waiting, failing], broken="sold 5 of 1 " * 10)
    text = transcript.as_text(run, width=width, full=full)
    assert max(map(cell_len, text.splitlines())) <= width
    assert (
        " ".join("".join(text.split()).split()).count("x" * 100) == 1
    )  # nothing of an error lacks


def test_a_transcript_on_80_columns() -> None:
    """The table's app is left out everywhere, since one statement would not fit with it."""
    columns = ", ".join(f'"catalogue_product"."column_{n}"' for n in range(9))
    sql = f'SELECT {columns} FROM "catalogue_product" WHERE "catalogue_product"."id" = 1 FOR UPDATE'
    product = ({"id": "1", "stock": "1", "title": "Mug"},)
    read = made_step("Ann", sql, rows=1, values=product)
    blocked = made_step("Bob", sql, wait=wait_for("Ann"), rows=1, values=product)
    save = made_step(
        "Ann",
        'UPDATE "catalogue_product" SET "title" = \'He said "hi", \'\'twice\'\'\', "stock" = 0 '
        'WHERE "catalogue_product"."id" = 1',
    )
    run = made_run([read, blocked, save, made_step("Ann", "COMMIT"), blocked])
    assert transcript.as_text(run, width=80, sentence="") == (
        """\
holds  Ann Bob Ann*2  (1 preemption)
   1 Ann │ SELECT … FROM …product WHERE id = 1 FOR UPDATE  → stock=1, title=Mug
   2       Bob │ SELECT … FROM …product WHERE id = 1 FOR UPDATE
                   <waiting on Ann: row lock on shop_mug>
   3 Ann │ UPDATE …product SET title = 'He said "hi…', stock = 0 WHERE id = 1
             → 1 row
   4 Ann │ COMMIT
  2'       Bob │ <… completed> SELECT  → stock=1, title=Mug
  Ann returned None; Bob returned None"""
    )


@pytest.mark.parametrize(
    ("room", "shown"),
    [
        (
            90,
            "SELECT id, sku, stock, price FROM warehouse_product WHERE sku = 'MUG' FOR UPDATE",
        ),
        (70, "SELECT … FROM warehouse_product WHERE sku = 'MUG' FOR UPDATE"),
        (48, None),
    ],
)
def test_a_select_loses_its_columns_first(room: int, shown: str | None) -> None:
    sql = (
        'SELECT "p"."id", "p"."sku", "p"."stock", "p"."price" FROM "warehouse_product" '
        'WHERE "warehouse_product"."sku" = \'MUG\' FOR UPDATE'
    )
    assert fitted(sql, room, ({"stock"},)) == shown


@pytest.mark.parametrize(
    ("sql", "room", "shown"),
    [
        ("SELECT a FROM warehouse_product", 25, "SELECT a FROM …product"),
        (
            'SELECT "order" FROM "t" WHERE "order" > 5 ORDER BY "group" ASC, "order" DESC LIMIT 1',
            60,
            "SELECT order FROM t WHERE order > 5 ORDER BY … LIMIT 1",
        ),
        (
            'UPDATE "t" SET "a" = 1, "stock" = \'1, 2\', "b" = 2 WHERE "t"."id" = 1',
            42,
            "UPDATE t SET stock = '1, 2', … WHERE id = 1",
        ),
        (
            "SELECT a FROM t INNER JOIN u ON (x = u.id) WHERE (u.id = 1 AND stock = 2) FOR UPDATE",
            46,
            "SELECT a FROM t … WHERE stock = 2 AND … FOR UPDATE",
        ),
        (
            "SELECT a FROM t WHERE (t.n BETWEEN 1 AND 20 AND b IS NULL AND c IS NOT NULL)",
            45,
            "SELECT a FROM t WHERE b IS NULL AND …",
        ),
        (
            "SELECT a FROM t WHERE (t.n BETWEEN 1 AND 20 AND d IS NULL AND c IS NOT NULL)",
            45,
            "SELECT a FROM t WHERE n BETWEEN 1 AND 20 AND …",
        ),
        (
            "SELECT a FROM t WHERE a IS DISTINCT FROM b AND c = 1 AND d = 2",
            48,
            "SELECT a FROM t WHERE a IS DISTINCT FROM b AND …",
        ),
        (
            "UPDATE t SET stock = 1 WHERE a = 'a value WHERE it is long AND has words'",
            50,
            "UPDATE t SET stock = 1 WHERE a = 'a value WHE…'",
        ),
    ],
)
def test_what_matters_least_goes_first(sql: str, room: int, shown: str) -> None:
    assert cut_to_fit(sql, max(room, len(shown)), ({"stock"}, {"stock", "order", "b"})) == shown
    assert cell_len(cut_to_fit(sql, 20, ({"stock"},))) <= 20


def test_names_stay_different_when_they_are_shortened() -> None:
    assert short_names(["Ann", "Bob"], 6) == {"Ann": "Ann", "Bob": "Bob"}
    assert list(short_names(["customer", "administrator"], 8).values()) == ["customer", "adminis…"]
    assert list(short_names(["session_one", "session_two"], 8).values()) == ["…ion_one", "…ion_two"]
    alike = [f"session_{n}_of_the_test" for n in range(12)]
    assert len(set(short_names(alike, 8).values())) == 12
    assert all(len(name) <= 8 for name in short_names(alike, 8).values())


def test_wide_characters_count_as_two_columns() -> None:
    assert cut("価格を変更する", 9) == "価格を…る"
    assert cut("short", 5) == "short"


def test_nothing_in_a_value_breaks_the_lanes() -> None:
    assert (
        visible("two\nlines, \x1b[31mred, \u202eback") == "two\\nlines, \\x1b[31mred, \\u202eback"
    )
    step = made_step("A", "SELECT a FROM t", rows=1, values=({"a": "two\nlines\x1b[2J"},))
    [row] = rows_of(transcript.as_text(made_run([step]), width=80))
    assert row == "   1 A │ SELECT a FROM t  → two\\nlines\\x1b[2J"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain", "plain"),
        ('say "hi"', 'say "hi"'),
        ("it's", "'it''s'"),
        ("a, b=c", "'a, b=c'"),
        ("", "''"),
        (" padded ", "' padded '"),
        ("Goldberg Variations", "Goldberg Variations"),
    ],
)
def test_values_keep_their_quotes(value: str, shown: str) -> None:
    step = made_step("A", "SELECT a, b FROM t", rows=1, values=({"a": value, "b": "1"},))
    [row] = rows_of(transcript.as_text(made_run([step]), width=80))
    assert row == f"   1 A │ SELECT a, b FROM t  → a={shown}, b=1"


def test_the_row_of_a_browser_is_counted_and_not_shown() -> None:
    """Its key and its data are unreadable, and nobody changes them."""
    sql = "SELECT session_key, expire_date FROM django_session WHERE session_key = 'qhy2'"
    values = ({"session_key": "qhy2pd09", "expire_date": "2026-12-12 20:53:35+00"},)
    step = made_step("A", sql, rows=1, values=values)
    [row] = rows_of(transcript.as_text(made_run([step]), width=120))
    assert row.endswith("→ 1 row")


def test_columns_of_the_sentence_come_first() -> None:
    """Of a row with many columns that change, those of the sentence alone are shown."""
    fields = {"modified": "2026-11-28 19:49:38.598871+00", "captured": "100", "token": "4711" * 8}
    read = "SELECT * FROM payment WHERE id = 1"
    save = (
        "UPDATE payment SET modified = '2026-12-01 10:00:01+00', captured = 40, token = 'x' "
        "WHERE id = 1"
    )
    other_save = save.replace("00:01", "00:00").replace("'x'", "'y'").replace("40", "60")
    run = made_run(
        [
            made_step("Ann", read, rows=1, values=({"id": "1", **fields},)),
            made_step("Bob", read, rows=1, values=({"id": "1", **fields},)),
            made_step("Bob", other_save),
            made_step("Bob", "COMMIT"),
            made_step("Ann", save),
            made_step("Ann", "COMMIT"),
        ],
        broken="120 of 100 paid back",
    )
    text = transcript.as_text(run, width=80)
    assert "wrote captured = 40 over it" in " ".join(text.split())
    rows = rows_of(text)
    assert rows[0] == f"   1 Ann │ {read}  → captured=100, …"
    assert rows[4].startswith("   5 Ann │ UPDATE payment SET captured = 40, … WHERE id = 1  →")


def test_the_width_is_the_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less what pytest puts before each line."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("PYTEST_CURRENT_TEST", "this")
    assert transcript.terminal_width() == 88
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    assert transcript.terminal_width() == 100
