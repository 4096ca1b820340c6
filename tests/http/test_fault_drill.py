"""A shop is hit by a fault of each kind while people buy in it: the short drill.

By hand there is a longer one: ``python -m tests.tools.fault_drill``.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.command_line import ROOT
from tests.tools.fault_drill.__main__ import make_parser
from tests.tools.fault_drill.faults import KINDS

pytestmark = pytest.mark.slow

ONE_OF_EACH = len(KINDS)


def run_drill(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.tools.fault_drill", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def leftovers() -> set[Path]:
    return set(Path("/tmp").glob("fault-drill-*"))


@pytest.mark.longest
def test_the_shop_is_right_after_a_fault_of_each_kind() -> None:
    before = leftovers()
    ended = run_drill("--faults", str(ONE_OF_EACH), "--seed", "1200")
    assert ended.returncode == 0, ended.stderr + ended.stdout
    for kind in KINDS:
        assert kind.kind in ended.stdout, ended.stdout
    assert leftovers() <= before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--only", "flood"], "kill-worker"),
        (["--faults", "0"], "must be from 1"),
        (["--faults", "many"], "must be a whole number"),
        (["--seconds", "-1"], "must be from 1"),
    ],
)
def test_wrong_options_are_named(
    options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        make_parser().parse_args(options)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
