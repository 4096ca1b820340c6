"""The options of the drills, and their end."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tests.tools.drills import ErrorsFirstParser, unwind_on_sigterm, whole_number


@pytest.fixture
def own_sigterm() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    yield
    signal.signal(signal.SIGTERM, before)


def test_a_wrong_option_gets_no_list_of_all_options(capsys: pytest.CaptureFixture[str]) -> None:
    parser = ErrorsFirstParser(prog="drill")
    parser.add_argument("--faults", type=whole_number)
    with pytest.raises(SystemExit) as end:
        parser.parse_args(["--faults", "many"])
    assert end.value.code == 2
    error, hint = capsys.readouterr().err.splitlines()
    assert error.startswith("drill: error: argument --faults: must be a whole number")
    assert hint == "See drill --help."


@pytest.mark.usefixtures("own_sigterm")
def test_sigterm_ends_what_a_drill_has_started() -> None:
    unwind_on_sigterm()
    ended = []
    with pytest.raises(SystemExit) as end:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            ended.append("what was started")
    assert ended == ["what was started"]
    assert end.value.code == 143
