"""How far an exploration is, on a terminal; and nothing of it anywhere else."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TextIO, cast

import pytest

from inventory.races import Result, progress, pytest_plugin
from inventory.races.progress import ERASE, RESTORE, SAVE, in_words, progress_on
from inventory.races.pytest_plugin import terminal_of
from tests.inventory.races.made import made_result, made_run, made_step, two_checkouts
from tests.inventory.races.test_counts import locked, one_mug

ROOT = Path(__file__).resolve().parents[3]


class Terminal:
    """Both ends of a terminal: a program writes to ``file``, and ``read`` returns it."""

    def __init__(self, leader: int, follower: int) -> None:
        self._leader = leader
        self.file: TextIO = open(follower, "w", encoding="utf-8")  # noqa: SIM115
        self._seen = ""

    def read(self, until: str) -> str:
        """All that was written, as soon as ``until`` is in it."""
        while until not in self._seen:
            self._seen += os.read(self._leader, 1000).decode()
        return self._seen


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    leader, follower = pty.openpty()
    made = Terminal(leader, follower)
    yield made
    made.file.close()
    os.close(leader)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress, "LATEST", 0.0)
    monkeypatch.setattr(progress, "PERIOD", 0.01)


def test_progress_in_words() -> None:
    result = made_result([])
    assert in_words(result, 0.4, 60) == "one session after the other, 0 s"
    result.add(made_run([made_step("A", "SELECT a FROM t")], preemptions=0), None)
    assert in_words(result, 1.2, 60) == "1 schedule, 0 broken, no preemptions, 1 s"
    result.add(two_checkouts(), None)
    assert in_words(result, 12.0, 60) == "2 schedules, 1 broken, at most 1 preemption, 12 s"
    assert in_words(result, 12.0, 40) == "2 schedules, 1 broken, 12 s"
    assert in_words(result, 12.0, 20) == "2 schedules, 12 s"
    result.sampled = 1
    assert in_words(result, 12.0, 60) == "2 schedules, 1 broken, 1 at random, 12 s"


@pytest.mark.usefixtures("at_once")
def test_the_line_follows_the_result_and_goes_away(terminal: Terminal) -> None:
    """The cursor stays where it is: pytest, or a command, goes on writing there."""
    result = made_result([])
    with progress_on(terminal.file, room=60) as watch:
        watch(result)
        terminal.read("one session after the other")
        result.add(two_checkouts(), None)
        seen = terminal.read("1 schedule, 1 broken, at most 1 preemption")
    terminal.file.write("end")
    terminal.file.flush()
    seen = terminal.read("end")
    assert seen.startswith(f"{SAVE} one session")
    assert seen.endswith(f"{ERASE}{RESTORE}{ERASE}end")
    assert "\n" not in seen


@pytest.mark.usefixtures("at_once")
def test_it_keeps_to_the_room_that_it_has(terminal: Terminal) -> None:
    with progress_on(terminal.file, room=28) as watch:
        watch(made_result([two_checkouts()]))
        seen = terminal.read(RESTORE)
    assert seen.startswith(f"{SAVE} 1 schedule, 1 broken, ")
    assert "preemption" not in seen


@pytest.mark.usefixtures("at_once")
def test_a_title_says_which_exploration_it_is(terminal: Terminal) -> None:
    with progress_on(terminal.file, room=60, title="naive, 2 buyers") as watch:
        watch(made_result([two_checkouts()]))
        seen = terminal.read(RESTORE)
    assert seen.startswith(f"{SAVE} naive, 2 buyers: 1 schedule, 1 broken, ")


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("reason", ["no terminal", "a file", "dumb", "no room"])
def test_nothing_is_written_elsewhere(
    reason: str, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    file: TextIO | None = terminal.file
    if reason == "no terminal":
        file = None
    elif reason == "a file":
        file = io.StringIO()
    elif reason == "dumb":
        monkeypatch.setenv("TERM", "dumb")
    with progress_on(file, room=5 if reason == "no room" else 60) as watch:
        watch(made_result([two_checkouts()]))
    terminal.file.write("end")
    terminal.file.flush()
    assert terminal.read("end") == "end"
    if isinstance(file, io.StringIO):
        assert file.getvalue() == ""


def test_it_passes_pytests_capture(tmp_path: Path, terminal: Terminal) -> None:
    (tmp_path / "test_it.py").write_text(
        "import sys\n"
        "from inventory.races.pytest_plugin import terminal_of\n"
        "def test_it(request):\n"
        "    print('captured', file=sys.stderr)\n"
        "    with terminal_of(request.config) as (terminal, room):\n"
        "        terminal.write(f'room {room}.')\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:django", "-p", "no:xdist"]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", tmp_path, tmp_path],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "100"},
        stdout=subprocess.PIPE,
        stderr=terminal.file,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert terminal.read("room 99.") == "room 99."


def test_workers_of_xdist_share_a_terminal_and_write_nothing() -> None:
    worker = SimpleNamespace(workerinput={})
    with terminal_of(cast(Any, worker)) as (file, _):
        assert file is None


@pytest.mark.usefixtures("at_once")
def test_the_fixture_shows_it(
    races: Any, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the test's own ``watch``."""
    found = nullcontext((terminal.file, 60))
    monkeypatch.setattr(pytest_plugin, "terminal_of", lambda config: found)
    results: list[Result] = []
    races([locked, locked], setup=one_mug, watch=results.append)
    terminal.read("one session after the other")
    [result] = results
    assert result.exhaustive
