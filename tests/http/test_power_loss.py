"""The tool that loses the power: what was told survives, and the tool finds it if it doesn't."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.command_line import ROOT
from tests.tools.power_loss.device import missing

pytestmark = [
    pytest.mark.slow,
    pytest.mark.longest,
    pytest.mark.skipif(missing("ext4") is not None, reason=f"no loss here: {missing('ext4')}"),
]


def lose_power(times: int, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.tools.power_loss",
            "--times",
            str(times),
            "--seed",
            "3",
            *options,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_what_buyers_were_told_survives() -> None:
    done = lose_power(1)
    assert done.returncode == 0, done.stderr
    assert "none is lost, and the law holds" in done.stdout


@pytest.mark.parametrize(
    "without",
    ["fsync", pytest.param("synchronous_commit", marks=pytest.mark.thorough)],
)
def test_without_its_safety_something_is_lost(without: str) -> None:
    done = lose_power(5, "--without", without)  # it ends with the first loss
    assert done.returncode == 1, done.stdout
    assert done.stderr.startswith("seed 3: ")
    assert "lost" in done.stderr or "can't be read" in done.stderr or "start" in done.stderr
