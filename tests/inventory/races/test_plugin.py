"""The fixture ``races``: explore, in one test, with all that the package offers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import inventory.races
from inventory.races import Misuse, RaceFound
from inventory.races.pytest_plugin import pytest_terminal_summary
from tests.inventory.races.models import Mug, Sale
from tests.inventory.races.test_counts import (
    in_a_transaction,
    locked,
    one_mug,
    read_check_save,
    sells_at_most_one,
)

ROOT = Path(__file__).resolve().parents[3]


def python(code: str, *arguments: str | Path, **environment: str) -> str:
    """The output of a Python of its own."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def test_it_stops_at_the_first_broken_schedule(races: Any) -> None:
    options = {"setup": one_mug, "invariant": sells_at_most_one}
    first = races([read_check_save] * 2, **options)
    assert [run.broken is None for run in first.runs[-2:]] == [True, False]
    assert len(first.broken) == 1
    # 16 schedules in all, of which 12 are broken: see test_counts.
    assert len(races([read_check_save] * 2, first=False, **options).broken) == 12


def test_an_exploration_that_stopped_early_does_not_count_as_serializable(races: Any) -> None:
    """The first schedule is a serial order, and broken: nothing else was looked at."""
    result = races([read_check_save] * 2, setup=one_mug, invariant=lambda run: False)
    assert result.schedules == 1
    with pytest.raises(RaceFound):
        result.assert_serializable()


def test_it_has_what_the_package_has(races: Any) -> None:
    """A test that calls its argument ``races`` can't see the package of that name."""
    for name in inventory.races.__all__:
        assert getattr(races, name) is getattr(inventory.races, name)
    run = races.replay("A*3 B", [read_check_save] * 2, setup=one_mug)
    assert set(run.raised) == {"B"}
    assert Sale.objects.count() == 1
    with pytest.raises(AttributeError, match="“races” has no attribute 'replays'"):
        races.replays  # noqa: B018
    with pytest.raises(AttributeError, match="has no attribute 'replays'"):
        inventory.races.replays  # type: ignore[attr-defined]  # noqa: B018


def set_stock() -> None:
    Mug.objects.update(stock=int(time.time()))


def test_the_notes_of_passes_stand_at_the_end(races: Any, request: pytest.FixtureRequest) -> None:
    """Each once, with all tests that have it; broken schedules show theirs in the failure."""
    options = {"setup": one_mug, "serial": False}
    races([set_stock, set_stock], invariant=lambda run: False, **options)
    properties = request.node.user_properties
    assert properties == []
    [note] = races([set_stock, set_stock], invariant=lambda run: True, **options).notes

    def report(test: str) -> pytest.TestReport:
        where = (__file__, 1, test)
        return pytest.TestReport(
            test, where, {}, "passed", None, "call", user_properties=[("other", 1), *properties]
        )

    terminal = Terminal(report("test_a"), report("test_b"))
    pytest_terminal_summary(terminal)  # type: ignore[arg-type]
    assert terminal.lines == ["races: left out of passes", "test_a, test_b", f"    {note}"]
    properties.clear()
    silent = Terminal(report("test_a"))
    pytest_terminal_summary(silent)  # type: ignore[arg-type]
    assert silent.lines == []


def test_a_pass_that_is_not_exhaustive_says_so(races: Any, request: pytest.FixtureRequest) -> None:
    options = {"setup": one_mug, "invariant": lambda run: True, "serial": False}
    races([locked] * 2, **options).assert_holds()
    assert request.node.user_properties == []
    races([locked] * 2, max_preemptions=0, **options).assert_holds()
    [(_, sentence)] = request.node.user_properties
    assert sentence == "Not exhaustive: all with at most no preemptions."


def test_a_pass_with_ends_like_no_serial_order_shows_its_notes(
    races: Any, request: pytest.FixtureRequest
) -> None:
    """As of an invariant that lacks its return."""
    sells_twice = [in_a_transaction] * 2
    result = races(sells_twice, setup=one_mug, invariant=lambda run: None, max_preemptions=1)
    assert result.not_serializable
    assert result.notes
    shown = [sentence for _, sentence in request.node.user_properties]
    assert shown == ["Not exhaustive: all with at most 1 preemption.", *result.notes]


def test_too_few_schedules_are_no_pass(races: Any) -> None:
    """The first one is always performed; the other one without preemption is not."""
    options = {"setup": one_mug, "seconds": 0.000001}
    for result in (
        races([locked] * 2, **options),
        races([locked] * 2, invariant=lambda run: True, **options),
        races([locked] * 2, setup=one_mug, budget=1, samples=0, reduce=False),
    ):
        assert result.schedules == 1
        with pytest.raises(Misuse, match="1 schedule, not even all without preemption"):
            result.assert_holds()
        with pytest.raises(Misuse, match=r"Raise (seconds|budget)"):
            result.assert_serializable()


class Terminal:
    """Stands for pytest's report on the terminal."""

    def __init__(self, *reports: pytest.TestReport) -> None:
        self.reports = reports
        self.lines: list[str] = []

    def getreports(self, name: str) -> tuple[pytest.TestReport, ...]:
        assert name == "passed"
        return self.reports

    def write_sep(self, sep: str, title: str) -> None:
        self.lines.append(title)

    def write_line(self, line: str) -> None:
        self.lines.append(line)


def test_without_rich_nothing_is_explored(races: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(sys.modules):
        if name.partition(".")[0] == "rich":
            monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "inventory.races.progress", raising=False)
    with pytest.raises(Misuse, match="pip install rich"):
        races([read_check_save] * 2, setup=one_mug)


@pytest.mark.slow
def test_pytest_loads_it_without_django_and_rich() -> None:
    """pytest does so in every project that has the package."""
    code = (
        "import inventory.races.pytest_plugin, sys\n"
        "print([name for name in sys.argv if name in sys.modules])"
    )
    assert python(code, "django", "psycopg", "rich", "asgiref") == "[]\n"


@pytest.mark.slow
def test_without_pytest_django_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_it(races): pass\n")
    code = (
        "import sys; sys.modules['pytest_django'] = None; import pytest; pytest.main(sys.argv[1:])"
    )
    plugin = ("-p", "inventory.races.pytest_plugin", "-p", "no:cacheprovider")
    said = python(
        code,
        *plugin,
        "-c",
        "/dev/null",
        tmp_path,
        PYTEST_DISABLE_PLUGIN_AUTOLOAD="1",
        PYTEST_ADDOPTS="",
    )
    assert "pip install pytest-django" in said
    assert "1 error" in said
