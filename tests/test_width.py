"""The output of commands fits 80 columns, and uses wider terminals."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Sequence

import pytest
from django.core.management import execute_from_command_line

from inventory.management.folding import folded
from tests import command_line

Run = Callable[[Sequence[str]], tuple[int, list[str]]]

pytestmark = pytest.mark.django_db(transaction=True)

SECONDS = 300  # after which a test gives up
OURS = [
    "flash_sale", "http_flash_sale", "races", "benchmark", "http_benchmark", "check_stock", "demo",
    "reconcile",
]  # fmt: skip
SHORT = ["--rounds", "1", "--seconds", "0.1", "--warm-up", "0", "--buyers", "2"]
FEW = ["--buyers", "3", "--stock", "2", "--think", "0"]
RUNS: dict[str, Sequence[str]] = {
    "a sale": ["flash_sale", "--backstop", "--rounds", "2", "--payment-ms", "0"],
    "races": ["races", "unguarded_decrement", "--buyers", "2", "--max-preemptions", "1"],
    "a benchmark": ["benchmark", *SHORT, "--row", "conditional_update", "--shape", "hot"],
    "a benchmark of pages": ["http_benchmark", *SHORT, "--only", "stock fragment, gthread"],
    "a sale over HTTP": ["http_flash_sale", *FEW, "--strategy", "unguarded_decrement"],
    "a check": ["check_stock"],
    "a plan": ["reconcile", "--since", "2026-01-01"],
    "a password": ["demo", "--password"],
}
# The same tables with all rows that they can have, and stories
LONG_RUNS: dict[str, Sequence[str]] = {
    "all races": ["races", "--max-preemptions", "1"],
    "a story": ["races", "--show", "naive"],
    "a story with waits": ["races", "--show", "mutex", "--buyers", "3", "--max-preemptions", "1"],
    "a demo": ["demo", "--no-serve"],
    "a benchmark in all shapes": ["benchmark", *SHORT, "--row", "conditional_update"],
    "a benchmark of all pages": ["http_benchmark", *SHORT, "--only", "gthread"],
    "sales of all strategies over HTTP": ["http_flash_sale", *FEW],
}
ERRORS: dict[str, Sequence[str]] = {
    "a level that isn't": ["races", "--isolation=chaos"],
    "a strategy that isn't": ["races", "xyzzy"],
    "no such strategy": ["flash_sale", "--strategy", "xyzzy"],
    "too many connections": ["flash_sale", "--buyers", "3000", "--threads", "1500"],
    "a bad quantity": ["flash_sale", "--quantity", "many"],
    "a bad row": ["benchmark", "--row", "xyzzy"],
    "a bad way of serving": ["http_benchmark", "--only", "xyzzy"],
    "another shop": ["http_benchmark", "--beside", "/nowhere"],
    "a bad shape": ["benchmark", "--shape", "xyzzy"],
    "a host without a product": ["http_flash_sale", "--host", "http://localhost:1"],
    "a bad time": ["reconcile", "--since", "yesterday"],
    "a bad port": ["demo", "--port", "99999"],
}


def run(arguments: Sequence[str], columns: int) -> tuple[int, list[str]]:
    """The exit code of a command, and all lines that it printed."""
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=command_line.ROOT,
        env={**command_line.environment(), "COLUMNS": str(columns)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
    )
    return done.returncode, [line.rstrip() for line in done.stdout.splitlines()]


@pytest.fixture
def run_here(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Do as ``run`` with 80 columns, but in this process, since starting another takes long."""

    def run_in_80_columns(arguments: Sequence[str]) -> tuple[int, list[str]]:
        monkeypatch.setenv("COLUMNS", "80")
        with pytest.raises(SystemExit) as end:
            execute_from_command_line(["manage.py", *arguments])
        printed = capsys.readouterr()
        lines = (printed.out + printed.err).splitlines()
        return int(end.value.code or 0), [line.rstrip() for line in lines]

    return run_in_80_columns


def too_wide(lines: list[str], columns: int) -> list[str]:
    return [line for line in lines if len(line) > columns]


@pytest.mark.slow
@pytest.mark.parametrize("arguments", RUNS.values(), ids=RUNS)
def test_results_fit_80_columns(arguments: Sequence[str]) -> None:
    check_results(arguments)


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.parametrize("arguments", LONG_RUNS.values(), ids=LONG_RUNS)
def test_long_results_fit_80_columns(arguments: Sequence[str]) -> None:
    check_results(arguments)


def check_results(arguments: Sequence[str]) -> None:
    code, lines = run(arguments, 80)
    assert code == 0, lines
    assert lines
    assert too_wide(lines, 80) == []


@pytest.mark.parametrize("command", OURS)
def test_help_fits_80_columns(run_here: Run, command: str) -> None:
    code, lines = run_here([command, "--help"])
    assert code == 0
    assert lines
    assert too_wide(lines, 80) == []


@pytest.mark.parametrize("arguments", ERRORS.values(), ids=ERRORS)
def test_errors_fit_80_columns(run_here: Run, arguments: Sequence[str]) -> None:
    code, lines = run_here(arguments)
    assert code == 2, lines
    assert lines
    assert too_wide(lines, 80) == []


@pytest.mark.parametrize("command", [*OURS, "migrate"])
def test_a_wrong_option_gets_no_list_of_all_options(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    with pytest.raises(SystemExit) as end:
        execute_from_command_line(["manage.py", command, "--xyzzy"])
    assert end.value.code == 2
    error, hint = capsys.readouterr().err.splitlines()
    assert error.startswith(f"manage.py {command}: error: ")
    assert hint == f"See manage.py {command} --help."


@pytest.mark.slow
def test_without_a_terminal_and_without_being_told_it_is_80(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    story = ("races", "naive", "--show", "naive", "--max-preemptions", "1")
    output, _ = command_line.start(*story).communicate(timeout=SECONDS)
    lines = output.splitlines()
    assert too_wide(lines, 80) == []
    assert max(map(len, lines)) > 70


@pytest.mark.slow
def test_a_wide_terminal_is_made_use_of() -> None:
    _, lines = run(["races", "naive", "--show", "naive", "--max-preemptions", "1"], 140)
    [update] = [line for line in lines if re.match(r" +3 ", line)]
    assert "WHERE id = 1  → 1 row" in update  # not cut
    assert any("seconds" in line and "what went wrong" in line for line in lines)


@pytest.mark.thorough
@pytest.mark.slow
def test_a_flash_sale_makes_use_of_it_too() -> None:
    _, lines = run(["flash_sale", "--strategy", "naive", "--payment-ms", "20"], 140)
    assert any(re.match(r"naive .*sold \d+ of 10", line) for line in lines)


@pytest.mark.slow
def test_a_message_that_only_programs_read_stays_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    _, errors = command_line.start("races", "--isolation=chaos").communicate(timeout=SECONDS)
    assert "must be one of read committed, repeatable read, serializable, not 'chaos'" in errors


def test_lines_are_folded_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    path = "/somewhere/far/away/in/a/directory.json"
    assert folded(f"short\n  This one is longer than thirty columns: {path}") == (
        f"short\n  This one is longer than\n  thirty columns:\n  {path}"
    )
