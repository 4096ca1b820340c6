"""The fixture ``races``: ``explore``, with the test database set up as it needs it.

It is there where the package is installed; where the folder was copied, conftest.py says
``pytest_plugins = ["inventory.races.pytest_plugin"]``. With ``--races-report DIRECTORY`` every
exploration that finds something leaves an HTML page there.

pytest loads this in every project that has the package: what needs Django or rich waits until a
test asks for it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import pytest

if TYPE_CHECKING:
    from .progress import Watch
    from .result import Result


NOTE = "races: left out"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("races")
    group.addoption(
        "--races-full",
        action="store_true",
        help="show all lines of a long transcript",
    )
    group.addoption(
        "--races-report",
        type=Path,
        metavar="DIRECTORY",
        help="where explorations that find a race leave a page with its transcript",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--races-full"):
        environment = pytest.MonkeyPatch()
        environment.setenv("RACES_FULL", "1")
        config.add_cleanup(environment.undo)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what passes leave out: nobody looks at a result that passed."""
    tests_by_note: dict[str, dict[str, None]] = {}
    for report in terminalreporter.getreports("passed"):
        for name, note in report.user_properties:
            if name == NOTE:
                tests_by_note.setdefault(str(note), {})[report.nodeid] = None
    if tests_by_note:
        terminalreporter.write_sep("=", "races: left out of passes")
    for note, tests in tests_by_note.items():
        terminalreporter.write_line(", ".join(tests))
        terminalreporter.write_line(f"    {note}")


@pytest.fixture
def races(request: pytest.FixtureRequest, transactional_db: None) -> Races:
    """``explore``, on a test database whose rows other connections can see.

    Takes and returns what ``explore`` does, but stops at the first broken schedule, unless told
    ``first=False``; call ``assert_holds()`` on the result. The package's other functions are
    here, too: ``races.request(…)``, ``races.replay(…)``.
    """
    return Races(request)


class Races:
    """The fixture in one test."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._name = request.node.name
        self._node = request.node.nodeid
        self._config = request.config
        self._properties: list[tuple[str, object]] = request.node.user_properties
        """Of the test: they go into its report, also from xdist's workers."""
        self._directory: Path | None = request.config.getoption("--races-report")
        self._reports = 0

    def __call__(self, sessions: Any, **options: Any) -> Result:
        from .explorer import explore
        from .surroundings import check_transcripts

        check_transcripts()  # else the next line fails without saying what to do
        from .progress import progress_on

        with (
            terminal_of(self._config) as (terminal, room),
            progress_on(terminal, room=room) as watch,
        ):
            options = {"first": True, **options, "watch": both(watch, options.get("watch"))}
            result = explore(sessions, **options)
        if not result.broken:
            self._properties += [(NOTE, sentence) for sentence in result.left_out]
        if self._directory is not None and result.shortest is not None:
            self._report(result, self._directory)
        return result

    def __getattr__(self, name: str) -> Any:
        """Another name of the package, which the fixture hides in a test."""
        package = sys.modules[__name__.rpartition(".")[0]]
        if name not in package.__all__:
            raise AttributeError(f"“races” has no attribute {name!r}")
        return getattr(package, name)

    def _report(self, result: Result, directory: Path) -> None:
        from .report import result_as_html

        self._reports += 1
        name = re.sub(r"[^\w.-]+", "_", f"{self._node}-{self._reports}")
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{name}.html").write_text(
            result_as_html(result, title=self._name), encoding="utf-8"
        )


def both(watch: Watch, own: Watch | None) -> Watch:
    def call_both(result: Result) -> None:
        watch(result)
        if own is not None:
            own(result)

    return call_both


@contextlib.contextmanager
def terminal_of(config: pytest.Config) -> Iterator[tuple[TextIO | None, int]]:
    """The terminal behind pytest's capture, and the columns that are free behind its cursor.

    None if standard error is no terminal, or if several processes write to it (xdist).
    """
    copy = None if hasattr(config, "workerinput") else copy_of_standard_error(config)
    if copy is None:
        yield None, 0
        return
    lines = config.get_terminal_writer()
    with open(copy, "w", encoding="utf-8", errors="replace") as terminal:
        yield terminal, lines.fullwidth - lines.width_of_current_line - 1


def copy_of_standard_error(config: pytest.Config) -> int | None:
    """A file descriptor of the terminal that pytest captures; None if there is none."""
    capture = config.pluginmanager.getplugin("capturemanager")
    uncaptured = capture.global_and_fixture_disabled() if capture else contextlib.nullcontext()
    with uncaptured, contextlib.suppress(OSError, ValueError):  # it is closed, or no file
        if sys.stderr.isatty():
            return os.dup(sys.stderr.fileno())
    return None


if importlib.util.find_spec("pytest_django") is None:

    @pytest.fixture
    def transactional_db() -> None:
        pytest.fail("The fixture “races” needs pytest-django: pip install pytest-django", False)
