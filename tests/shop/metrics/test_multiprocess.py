"""The files with the counts: slots, leftovers, and disks without room."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shop.metrics import multiprocess
from tests.shop.programs import ROOT, needs_root

# Counts under names that need more and more room, then shows what of them is kept.
COUNTING = """
import sys
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.multiprocess import MultiProcessCollector
from shop.metrics import multiprocess

multiprocess.use_slots()
counter = Counter("counted_total", "x" * 1000, ["name"], registry=CollectorRegistry())
for name in range(int(sys.argv[1])):
    counter.labels(str(name)).inc()
    counter.labels("0").inc()
[family] = MultiProcessCollector(None, multiprocess.directory()).collect()
kept = {sample.labels["name"]: sample.value for sample in family.samples}
print(len(kept), kept["0"])
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with 300 kB."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def count(directory: Path, names: int, program: str = COUNTING) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, str(names)],
        cwd=ROOT,
        env={**os.environ, multiprocess.VARIABLE: str(directory), "DJANGO_SETTINGS_MODULE": ""},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_process_goes_on_with_the_counts_of_the_one_before_it(tmp_path: Path) -> None:
    first, second = (count(tmp_path, 10) for _ in range(2))
    assert first.stdout == "10 11.0\n", first.stderr
    assert second.stdout == "10 22.0\n", second.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.lock", "counter_0.db"]


def test_processes_at_a_time_have_slots_of_their_own(tmp_path: Path) -> None:
    lock = os.open(tmp_path / "0.lock", os.O_CREAT | os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        assert count(tmp_path, 1).stdout == "1 2.0\n"
    finally:
        os.close(lock)
    assert (tmp_path / "counter_1.db").exists()
    assert not (tmp_path / "counter_0.db").exists()


def test_a_file_that_is_full_is_doubled(tmp_path: Path) -> None:
    names = multiprocess.FIRST_SIZE // 1000  # of more than a thousand bytes each
    assert count(tmp_path, names).stdout == f"{names} {names + 1}.0\n"
    assert (tmp_path / "counter_0.db").stat().st_size == 2 * multiprocess.FIRST_SIZE


@needs_root
class TestFullDisk:
    def test_nothing_fits(self, small_disk: Path) -> None:
        """The shop works all the same, and counts nothing."""
        fill(small_disk)
        run = count(small_disk, 5)
        assert "SIGBUS" not in died_of(run)
        assert "not enough values to unpack" in run.stderr  # the collector finds no family
        assert "aren't kept: [Errno 28]" in run.stderr

    def test_what_has_a_place_goes_on_being_counted(self, small_disk: Path) -> None:
        names = 2 * multiprocess.FIRST_SIZE // 1000
        run = count(small_disk, names)
        assert died_of(run) == "", run.stderr
        kept, first = run.stdout.split()
        assert 100 < int(kept) < multiprocess.FIRST_SIZE / 1000
        assert float(first) == names + 1

    def test_it_would_kill_a_process_whose_room_is_not_reserved(self, small_disk: Path) -> None:
        """The library by itself."""
        fill(small_disk)
        program = COUNTING.replace("multiprocess.use_slots()\n", "")
        assert died_of(count(small_disk, 5, program)) == "SIGBUS"


def fill(disk: Path) -> None:
    with (disk / "rest").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


def died_of(run: subprocess.CompletedProcess[str]) -> str:
    return signal.Signals(-run.returncode).name if run.returncode < 0 else ""
