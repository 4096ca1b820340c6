"""A shop is hit by faults while people buy in it: the short drills.

By hand there is a longer one: ``python -m tests.tools.fault_drill``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.command_line import ROOT
from tests.tools.fault_drill.__main__ import make_parser
from tests.tools.fault_drill.faults import KINDS
from tests.tools.fault_drill.waiting import wait_until

pytestmark = pytest.mark.slow

FEW = 4  # kinds come one after the other
ONE_OF_EACH = len(KINDS)
SEED = 1200


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A directory in which the drill leaves nothing. Its path is short, as that of a socket is."""
    with tempfile.TemporaryDirectory(prefix="drilled-") as name:
        yield Path(name)


def start_drill(temporary: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.tools.fault_drill", *options],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.longest
def test_the_shop_is_right_after_faults_of_several_kinds(temporary: Path) -> None:
    report = report_of(temporary, FEW)
    assert len([kind for kind in KINDS if kind.kind in report]) >= FEW, report


@pytest.mark.thorough
@pytest.mark.longest
def test_the_shop_is_right_after_a_fault_of_each_kind(temporary: Path) -> None:
    report = report_of(temporary, ONE_OF_EACH)
    for kind in KINDS:
        assert kind.kind in report, report


def report_of(temporary: Path, faults: int) -> str:
    """Run a drill in which all must be right; return its report."""
    drill = start_drill(temporary, "--faults", str(faults), "--seed", str(SEED))
    report, problem = drill.communicate()
    assert drill.returncode == 0, problem + report
    assert list(temporary.iterdir()) == []
    return report


def test_nothing_is_left_when_it_is_broken_off(temporary: Path) -> None:
    drill = start_drill(temporary)
    try:
        children = psutil.Process(drill.pid).children
        wait_until(lambda: any(each.name() == "postgres" for each in children()), "it runs", 60)
        programs = children(recursive=True)
        drill.send_signal(signal.SIGINT)
        _, words = drill.communicate(timeout=120)
    finally:
        drill.kill()
    assert (drill.returncode, words) == (1, "Broken off. Everything that was started has ended.\n")
    assert not [each for each in programs if each.is_running()]
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--only", "flood"], "kill-worker"),
        (["--faults", "0"], "must be a whole number from 1 to"),
        (["--faults", "many"], "must be a whole number from 1 to"),
        (["--seconds", "-1"], "must be a whole number from 1 to"),
    ],
)
def test_wrong_options_are_named(
    options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        make_parser().parse_args(options)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
