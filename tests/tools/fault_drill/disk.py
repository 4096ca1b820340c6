"""The disk of the database: small, so that it can be filled."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SIZE = "400m"
BLOCK = 64 * 1024  # bytes


class Disk:
    """A directory, which is a file system of its own if ``can_be_filled``."""

    def __init__(self, directory: Path, *, can_be_filled: bool) -> None:
        self.directory = directory
        self.can_be_filled = can_be_filled
        self._filling = directory / "filling"

    def fill(self) -> None:
        """Take all the room that is left."""
        descriptor = os.open(self._filling, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            for size in (BLOCK, 512):
                with suppress(OSError):  # no room is left
                    while True:
                        os.write(descriptor, bytes(size))
        finally:
            os.close(descriptor)

    def free(self) -> None:
        """Give the room back."""
        self._filling.unlink(missing_ok=True)


@contextmanager
def small_disk() -> Iterator[Disk]:
    """A small file system in memory if we may mount one, else a directory of the large disk."""
    with tempfile.TemporaryDirectory(prefix="fault-drill-") as name:
        directory = Path(name).resolve()
        is_mounted = _mount(directory)
        try:
            yield Disk(directory, can_be_filled=is_mounted)
        finally:
            if is_mounted:
                subprocess.run(["umount", "--lazy", directory], check=True)


def _mount(directory: Path) -> bool:
    if os.geteuid() != 0:
        return False
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=711", "fault-drill", str(directory)]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False
