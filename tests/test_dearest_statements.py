"""The tool that finds dear statements: which of them grow, and what it says without a server."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.tools.dearest_statements import postgres
from tests.tools.dearest_statements.__main__ import parse_options
from tests.tools.dearest_statements.report import reason_of
from tests.tools.dearest_statements.statements import NOT_OF_SHOP, Growth, Statement, compare


def statement(sql: str, pages: int, calls: int = 1) -> Statement:
    return Statement(sql, key=1, calls=calls, ms=5.0, rows=3, pages=pages)


@pytest.mark.parametrize(
    ("small", "large", "grows"),
    [
        (4, 6, False),  # an index with another level
        (3, 30, False),  # few, however many times as many
        (33, 3300, True),
        (1000, 1100, False),
        (1000, 3100, True),
    ],
)
def test_a_statement_grows_if_a_call_reads_many_times_as_many_pages(
    small: int, large: int, grows: bool
) -> None:
    found = Growth(statement("SELECT", 10 * small, calls=10), statement("SELECT", large))
    assert found.grows is grows


def test_statements_are_compared_by_their_text() -> None:
    one, same, other = statement("SELECT 1", 5), statement("SELECT 1", 9), statement("SELECT 2", 9)
    assert compare([one], [same, other]) == {"SELECT 1": Growth(one, same)}


def test_a_long_statement_is_cut_in_its_middle() -> None:
    text = statement("SELECT " + "x, " * 100 + "FROM\n  somewhere", 1).in_short(60)
    assert len(text) <= 60
    assert text.startswith("SELECT x, ")
    assert text.endswith("FROM somewhere")


def test_the_servers_own_upkeep_is_none_of_the_shops() -> None:
    assert NOT_OF_SHOP.match("VACUUM ANALYZE")
    assert not NOT_OF_SHOP.match("SELECT 1")


def test_a_statement_without_a_reason_must_not_grow() -> None:
    assert reason_of(statement('SELECT * FROM "inventory_product"', 1)) == ""
    assert "tenth of the time" in reason_of(
        statement("SELECT id, recorded,\n  CASE WHEN is_active AND", 1)
    )


def test_without_a_server_it_says_which_package_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(postgres, "PLACES", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(postgres.NoServer, match="Debian's package postgresql"):
        postgres.find_programs()


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many", ""])
def test_a_number_of_rows_is_one_or_more(
    text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["dearest_statements", f"--orders={text}"])
    with pytest.raises(SystemExit):
        parse_options()
    assert "--orders: must be a whole number from 1 to" in capsys.readouterr().err
