"""A program that is kept running, as systemd would do it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from .kept import Kept, members_of
from .waiting import wait_until

pytestmark = pytest.mark.slow

WITH_A_CHILD = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
time.sleep(60)
"""
SECONDS = 30.0


@pytest.fixture
def kept() -> Iterator[Kept]:
    def run() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", WITH_A_CHILD], start_new_session=True)

    kept = Kept("sleeper", run)
    kept.start()
    wait_until(lambda: len(members_of(kept.pid)) == 2, "its child has started", SECONDS)
    yield kept
    kept.stop()


def test_it_is_started_again_once_its_orphans_have_ended(kept: Kept) -> None:
    before = kept.pid
    kept.kill()
    wait_until(lambda: kept.starts == 2 and kept.is_running(), "it runs again", SECONDS)
    assert kept.pid != before
    assert members_of(before) == []


def test_its_orphans_may_stay(kept: Kept) -> None:
    before = kept.pid
    kept.leaves_orphans = True
    kept.kill()
    wait_until(lambda: kept.starts == 2, "it runs again", SECONDS)
    assert [each.ppid() for each in members_of(before)] != [before]
    for each in members_of(before):
        each.kill()


def test_nothing_is_left_when_it_is_stopped(kept: Kept) -> None:
    kept.kill(signal.SIGSTOP)
    kept.stop()
    wait_until(lambda: not members_of(kept.pid), "all have ended", SECONDS)
    assert kept.starts == 1
