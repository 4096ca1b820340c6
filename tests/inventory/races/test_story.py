"""The sentence below a transcript, on races in other people's packages.

The runs were recorded; the sentences were written from the transcripts, by reasoning.
"""

from __future__ import annotations

import re

import pytest

from inventory.races import Run, story
from inventory.races.statements import Kind
from tests.inventory.races import recorded
from tests.inventory.races.made import made_run, made_step

SENTENCES = {
    "ordered_model_create": (
        story.PHANTOM,
        "Ann looked at demo_item (line 1) before Bob's write (line 3), did not see what Bob "
        "added, and added its own (line 4).",
    ),
    "ordered_model_up": (
        story.LOST_UPDATE,
        "Ann read order = 1 (line 1) before Bob's write (line 5), and wrote order = 0 over it "
        "(line 7).",
    ),
    "ordered_model_top": (
        story.LOST_UPDATE,
        "Ann read order = 2 (line 1) before Bob's write (line 4), and wrote order = 0 over it "
        "(line 8).",
    ),
    "ordered_model_delete": (
        story.STALE_CHECK,
        "Bob read order = 2 (line 1) before Ann's write (line 3), and still went by it (line 6, "
        "order > 2): what it had read was no longer true.",
    ),
    "mptt_child": (
        story.WRITE_SKEW,
        "Ann read rght = 4 (line 2) before Bob's write (line 5), and went on to add to demo_genre "
        "(line 7).",
    ),
    "mptt_root": (
        story.PHANTOM,
        "Ann looked at demo_genre (line 1) before Bob's write (line 3), did not see what Bob "
        "added, and added its own (line 4).",
    ),
    "treebeard_mp_child": (
        None,
        "Bob had to wait for Ann (row lock on demo_cat), and then read numchild = 2.",
    ),
    "treebeard_mp_move": (
        story.STALE_CHECK,
        "Ann read path = 0002 (line 4) before Bob's COMMIT (line 13), and then found no row with "
        "path = '0002' any more (line 15).",
    ),
    "treebeard_ns_child": (
        None,
        "Bob had to wait for Ann (row lock on demo_nest), and then read rgt = 6.",
    ),
    "fsm_pay_twice": (
        story.STALE_CHECK,
        "Ann read state = open (line 1) before Bob's COMMIT (line 5), and still set state to "
        "'paid' (line 7): what it had read was no longer true.",
    ),
    "fsm_pay_cancel": (
        story.LOST_UPDATE,
        "Ann read state = open (line 1) before Bob's COMMIT (line 4), and wrote state = 'paid' "
        "over it (line 6).",
    ),
    "fsm_concurrent_mixin": (
        story.STALE_CHECK,
        "Ann read state = open (line 1) before Bob's COMMIT (line 5), and then found no row with "
        "state = 'open' any more (line 7).",
    ),
    "simplejwt_rotate": (
        story.PHANTOM,
        "Ann looked at token_blacklist_blacklistedtoken (line 1) before Thief's COMMIT (line 8), "
        "did not see what Thief added (line 7), and went on to add to "
        "token_blacklist_outstandingtoken (line 19).",
    ),
    "axes_limit": (
        story.PHANTOM,
        "Ann looked at axes_accessattempt (line 1) before Bob's COMMIT (line 9), did not see what "
        "Bob added (line 7), and went on to change it (line 14).",
    ),
    "allauth_email": (
        story.PHANTOM,
        "Ann looked at auth_user (line 2) before Bob's write (line 6), did not see what Bob added, "
        "and added its own (line 19).",
    ),
    "simple_history_vote": (
        story.LOST_UPDATE,
        "A read votes = 0 (line 1) before B's write (line 3), and wrote votes = 1 over it "
        "(line 5).",
    ),
    "constance_increment": (
        story.PHANTOM,
        "A looked at constance_constance (line 1) before B's COMMIT (line 5), did not see what B "
        "added (line 4), and went on to change it (line 9).",
    ),
    "oscar_checkout": (
        story.STALE_CHECK,
        "Ann read num_allocated = 0 (line 11) before Bob's COMMIT (line 41), and went on to change "
        "it (line 74).",
    ),
    "oscar_basket_at_log_in": (
        story.STALE_CHECK,
        "Tab1 read status = Open (line 3) before Tab2's write (line 19), and still set status to "
        "'Merged' (line 37): what it had read was no longer true.",
    ),
    "payments_two_refunds": (
        story.LOST_UPDATE,
        "Ann read captured_amount = 100.00 (line 1) before Bob's write (line 4), and wrote "
        "captured_amount = 40.00 over it (line 6).",
    ),
    "stale_check_of_two_tables": (
        story.STALE_CHECK,
        "Ann read name = 0 (line 2) before Bob's write (line 6), and still set name to "
        "COALESCE(name, '') || COALESCE('1', '') (line 8): what it had read was no longer true.",
    ),
}


def test_every_recording_is_told() -> None:
    assert set(recorded.ALL) == set(SENTENCES)


@pytest.mark.parametrize("name", SENTENCES)
def test_the_sentence_is_right(name: str) -> None:
    anomaly, sentence = SENTENCES[name]
    run = recorded.load(name)
    assert story.describe_run(run) == sentence
    assert story.anomalies(run)[:1] == ([anomaly] if anomaly else [])


# Runs made by hand: one thing at a time

Line = tuple[str, str, object]


def made(*lines: Line) -> Run:
    """A broken run of these lines: (session, statement, rows returned or their number).

    Statements are transactions of their own, but for those of a session that commits later.
    """
    in_transaction = {name for name, sql, _ in lines if sql in ("COMMIT", "ROLLBACK")}
    steps = []
    for name, sql, result in lines:
        rows = result if isinstance(result, list) else []
        step = made_step(name, sql, rows=len(rows) or result, values=tuple(rows))
        step.is_autocommit = name not in in_transaction
        if sql.startswith("⋯ cache"):
            step.kind = Kind.CACHE
        steps.append(step)
    return made_run(steps, broken="The invariant does not hold.", is_serializable=False)


SILENT = "The statements alone don't tell why it ends like no serial order of its sessions."
READ = 'SELECT "mug"."id", "mug"."sku", "mug"."stock" FROM "mug" WHERE "mug"."id" = 1'
ROW = {"id": "1", "sku": "MUG", "stock": "5"}
ADD_SALE = "INSERT INTO sale (mug_id) VALUES (1) RETURNING id"


def saved(sku: str, stock: int, key: int = 1) -> str:
    return f'UPDATE "mug" SET "sku" = \'{sku}\', "stock" = {stock} WHERE "mug"."id" = {key}'


def told(*lines: Line) -> str:
    run = made(*lines)
    [finding, *_] = story.findings(run)
    numbers = {int(number) for number in re.findall(r"line (\d+)", finding.sentence)}
    assert numbers <= {step.number for step in finding.steps}  # those that it speaks of
    return finding.sentence


def test_two_rows_are_not_one() -> None:
    lines = [("A", READ, [ROW]), ("B", saved("MUG", 4, key=2), 1), ("A", saved("MUG", 4), 1)]
    assert told(*lines) == SILENT
    delete = ("B", "DELETE FROM mug WHERE mug.id IN (2)", 1)
    assert told(lines[0], delete, lines[2]) == SILENT
    elsewhere = ("B", "UPDATE sale SET sku = 'X', stock = 3 WHERE id = 1", 1)
    assert told(lines[0], elsewhere, lines[2]) == SILENT


def test_the_column_is_the_one_whose_value_differs() -> None:
    assert told(("A", READ, [ROW]), ("B", saved("MUG", 4), 1), ("A", saved("MUG", 3), 1)) == (
        "A read stock = 5 (line 1) before B's write (line 2), and wrote stock = 3 over it (line 3)."
    )
    # A writes back what it had read: B's change is lost all the same.
    assert told(("A", READ, [ROW]), ("B", saved("CUP", 5), 1), ("A", saved("MUG", 3), 1)) == (
        "A read sku = MUG (line 1) before B's write (line 2), and wrote sku = 'MUG' over it "
        "(line 3)."
    )


def test_a_value_of_its_own_tells_more_than_one_written_back() -> None:
    assert told(("A", READ, [ROW]), ("B", saved("CUP", 4), 1), ("A", saved("MUG", 3), 1)) == (
        "A read stock = 5 (line 1) before B's write (line 2), and wrote stock = 3 over it (line 3)."
    )


def test_a_session_that_has_written_the_row_goes_by_that() -> None:
    mine, theirs = ("A", saved("MUG", 4), 1), ("B", saved("MUG", 2), 1)
    assert told(("A", READ, [ROW]), mine, theirs, ("A", ADD_SALE, [{"id": "8"}])) == SILENT


def test_a_change_that_changes_nothing_is_none() -> None:
    change, write = ("B", saved("MUG", 5), 1), ("A", saved("MUG", 3), 1)
    assert told(("A", READ, [ROW]), change, write) == SILENT
    by_name = READ.replace('"id" = 1', "\"sku\" = 'MUG'")
    assert told(("A", by_name, [ROW]), change, write) == SILENT


def test_a_change_of_other_columns_is_none() -> None:
    def counted(condition: str) -> str:
        return told(
            ("A", f"SELECT COUNT(*) AS n FROM mug WHERE {condition}", [{"n": "1"}]),
            ("B", "UPDATE mug SET stock = 0 WHERE id = 9", 1),
            ("A", ADD_SALE, [{"id": "8"}]),
        )

    assert counted("sku = 'MUG'") == SILENT
    assert counted("sku = 'MUG' AND stock > 0").startswith("A looked at mug (line 1)")


def test_the_row_is_found_by_a_condition_that_it_meets() -> None:
    def of_others(condition: str) -> str:
        change = f"UPDATE mug SET stock = stock - 1 WHERE {condition}"
        return told(("A", READ, [ROW]), ("B", change, 1), ("A", saved("MUG", 3), 1))

    lost = (
        "A read stock = 5 (line 1) before B's write (line 2), and wrote stock = 3 over it (line 3)."
    )
    assert of_others("sku = 'MUG'") == lost
    assert of_others("stock BETWEEN 1 AND 5 AND NOT (sku LIKE 'C%')") == lost
    assert of_others("sku = 'CUP'") == SILENT
    assert of_others("stock > 5 OR sku IN ('a', 'b')") == SILENT


def test_a_write_that_checks_again_is_not_blamed() -> None:
    change = "UPDATE mug SET stock = (mug.stock - 1) WHERE (mug.id = 1 AND mug.stock >= 1)"
    sentence = told(("A", READ, [ROW]), ("B", change, 1), ("A", change, 1))
    assert "still" not in sentence
    assert "over it" not in sentence


def test_a_read_that_was_repeated_is_not_blamed() -> None:
    again = ("A", f"{READ} FOR UPDATE", [{**ROW, "stock": "4"}])
    sentence = told(
        ("A", READ, [ROW]),
        ("B", saved("MUG", 4), 1),
        again,
        ("A", saved("MUG", 3), 1),
        ("A", "COMMIT", None),
    )
    assert "over it" not in sentence


def test_deletes_are_told_as_deletes() -> None:
    delete = "DELETE FROM mug WHERE mug.id IN (1)"
    assert told(("A", READ, [ROW]), ("B", saved("MUG", 4), 1), ("A", delete, 1)) == (
        "A read stock = 5 (line 1) before B's write (line 2), and deleted the row (line 3)."
    )
    assert told(("A", READ, [ROW]), ("B", delete, 1), ("A", saved("MUG", 3), 0)) == (
        "A looked at mug (line 1) before B's write (line 2), did not see what B deleted, and then "
        "found nothing to change (line 3)."
    )
    assert told(("A", READ, [ROW]), ("B", delete, 1), ("A", ADD_SALE, [{"id": "8"}])) == (
        "A looked at mug (line 1) before B's write (line 2), did not see what B deleted, and went "
        "on to add to sale (line 3)."
    )


def test_an_added_row_must_have_met_the_condition() -> None:
    def looked_for(condition: str) -> str:
        count = f"SELECT COUNT(*) AS n FROM sale WHERE {condition}"
        mine = "INSERT INTO sale (mug_id, who) VALUES (1, 'A') RETURNING id"
        other = "INSERT INTO sale (mug_id, who) VALUES (1, 'B') RETURNING id"
        return told(
            ("A", count, [{"n": "0"}]), ("B", other, [{"id": "7"}]), ("A", mine, [{"id": "8"}])
        )

    seen = (
        "A looked at sale (line 1) before B's write (line 2), did not see what B added, and added "
        "its own (line 3)."
    )
    assert looked_for("sale.mug_id = 1") == seen
    assert looked_for("UPPER(sale.who::text) = UPPER('b')") == seen
    assert looked_for("sale.mug_id = 2") == SILENT
    assert looked_for("sale.mug_id = 1 AND sale.who = 'A'") == SILENT
    assert looked_for("sale.id = 3") == SILENT


def test_a_session_that_looked_again_did_not_add_blindly() -> None:
    count = "SELECT COUNT(*) AS n FROM sale WHERE mug_id = 1"
    assert told(
        ("A", count, [{"n": "0"}]),
        ("B", ADD_SALE, [{"id": "7"}]),
        ("A", count, [{"n": "1"}]),
        ("A", ADD_SALE, [{"id": "8"}]),
    ) == (
        "A looked at sale (line 1) before B's write (line 2), did not see what B added, and went "
        "on to add to sale (line 4)."
    )


def test_a_reader_that_wrote_elsewhere() -> None:
    assert told(("A", READ, [ROW]), ("B", saved("MUG", 0), 1), ("A", ADD_SALE, [{"id": "8"}])) == (
        "A read stock = 5 (line 1) before B's write (line 2), and went on to add to sale (line 3)."
    )


def test_a_time_is_told_only_if_there_is_nothing_else() -> None:
    def visit(at: str) -> str:
        return f"UPDATE mug SET seen = '2026-11-28 {at}+00:00'::timestamptz, stock = 3 WHERE id = 1"

    row = {**ROW, "seen": "2026-11-28 10:00:00+00", "stock": "4"}
    read = "SELECT mug.id, mug.seen, mug.stock FROM mug WHERE mug.id = 1"
    assert "stock = 3 over it" in told(
        ("A", read, [row]), ("B", visit("11:00:00"), 1), ("A", visit("12:00:00"), 1)
    )
    assert told(("A", read, [row | {"stock": "3"}]), ("B", visit("10:00:00"), 1)) == SILENT


def test_a_transaction_that_was_rolled_back_has_changed_nothing() -> None:
    assert (
        told(
            ("A", READ, [ROW]),
            ("B", saved("MUG", 4), 1),
            ("B", "ROLLBACK", None),
            ("A", saved("MUG", 3), 1),
        )
        == SILENT
    )


def test_half_of_what_another_did() -> None:
    """A transfer in two transactions: the reader sees the money twice, or not at all."""
    transfer = [
        ("A", "UPDATE mug SET stock = stock - 1 WHERE id = 1", 1),
        ("A", "UPDATE mug SET stock = stock + 1 WHERE id = 2", 1),
    ]
    look = (
        "B",
        "SELECT id, stock FROM mug",
        [{"id": "1", "stock": "0"}, {"id": "2", "stock": "0"}],
    )
    count = ("B", "INSERT INTO sale (sum) VALUES (0) RETURNING id", [{"id": "1"}])
    assert told(transfer[0], look, count, transfer[1]) == (
        "B looked at mug (line 2) after A's write (line 1) and before A's write (line 4): it saw "
        "half of what A did."
    )
    assert told(look, count, *transfer) == SILENT
    assert told(*transfer, look, count) == SILENT


def test_what_is_kept_in_a_cache() -> None:
    def keep(operation: str) -> Line:
        return ("Page", f"⋯ cache “default”: {operation} 'mug:1' (shop/views.py:7)", None)

    read, write = ("Page", READ, [ROW]), ("Admin", saved("MUG", 0), 1)
    assert told(read, write, keep("set")) == (
        "Page read stock = 5 (line 1) before Admin's write (line 2), and went on to write to the "
        "cache “default” (line 3)."
    )
    assert told(read, write, keep("get")).startswith(SILENT.removesuffix("."))
    assert told(read, keep("set"), write) == SILENT


def test_what_was_undone_has_changed_nothing() -> None:
    """A savepoint was rolled back, and the transaction went on."""

    def rolled_back_to(first: str, second: str) -> str:
        return told(
            ("A", READ, [ROW]),
            ("B", f'SAVEPOINT "{first}"', None),
            ("B", f'SAVEPOINT "{second}"', None),
            ("B", saved("MUG", 4), 1),
            ("B", 'ROLLBACK TO SAVEPOINT "s_x1"', None),
            ("B", "COMMIT", None),
            ("A", saved("MUG", 3), 1),
        )

    assert rolled_back_to("s_x1", "s_x2") == SILENT
    assert rolled_back_to("s_x2", "s_x1") == SILENT
    assert "over it" in rolled_back_to("s_x2", "s_x3")
    set_again = told(
        ("A", READ, [ROW]),
        ("B", 'SAVEPOINT "s_x1"', None),
        ("B", saved("MUG", 4), 1),
        ("B", 'SAVEPOINT "s_x1"', None),
        ("B", 'ROLLBACK TO SAVEPOINT "s_x1"', None),
        ("B", "COMMIT", None),
        ("A", saved("MUG", 3), 1),
    )
    assert "over it" in set_again


def test_a_new_try_is_not_blamed_for_what_the_one_before_read() -> None:
    sentence = told(
        ("A", READ, [ROW]),
        ("B", saved("MUG", 4), 1),
        ("A", "ROLLBACK", None),
        ("A", saved("MUG", 3), 1),
        ("A", "COMMIT", None),
    )
    assert sentence == SILENT


def test_an_insert_that_may_update() -> None:
    upsert = (
        "INSERT INTO mug (id, stock) VALUES ({}, 4) ON CONFLICT (id) DO UPDATE SET stock = "
        "EXCLUDED.stock RETURNING id"
    )
    assert told(
        ("A", READ, [ROW]), ("B", upsert.format(1), [{"id": "1"}]), ("A", saved("MUG", 3), 1)
    ) == (
        "A read stock = 5 (line 1) before B's write (line 2), and wrote stock = 3 over it (line 3)."
    )
    count = "SELECT COUNT(*) AS n FROM mug"
    assert told(
        ("A", count, [{"n": "1"}]), ("B", upsert.format(2), [{"id": "2"}]), ("A", ADD_SALE, 1)
    ) == (
        "A looked at mug (line 1) before B's write (line 2), did not see what B wrote, and went on "
        "to add to sale (line 3)."
    )


def test_rows_of_several_selects_are_not_taken_for_those_of_the_first() -> None:
    both = "SELECT id, stock FROM mug UNION SELECT id, sum FROM sale WHERE id = 2"
    sentence = told(
        ("A", both, [{"id": "1", "stock": "5"}]), ("B", saved("MUG", 4), 1), ("A", saved("A", 3), 1)
    )
    assert "read" not in sentence
