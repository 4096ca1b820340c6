"""A file system on a loop device, which can lose its power."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

SIZE = 800 * 1024**2  # bytes; the file is sparse
GOING_DOWN = 0x8004587D  # ioctl: _IOR('X', 125, __u32), of ext4 and xfs
WITHOUT_FLUSHING_THE_LOG = 2
SECONDS_TO_LET_GO = 30.0  # until the killed processes have closed their files
IN_OWN_NAMESPACE = ["unshare", "--mount"]
HAS_NAMESPACE = "POWER_LOSS_HAS_NAMESPACE"
FILE_SYSTEMS = {"ext4": ["mkfs.ext4", "-q", "-F"], "xfs": ["mkfs.xfs", "-q", "-f"]}


class Device:
    """The file system in ``image``, mounted on ``directory``."""

    def __init__(self, image: Path, directory: Path, file_system: str) -> None:
        self.directory = directory
        self._image = image
        self._file_system = file_system

    def make(self) -> None:
        """Make the file system, and mount it. Raises CalledProcessError."""
        with self._image.open("wb") as image:
            image.truncate(SIZE)
        _run(*FILE_SYSTEMS[self._file_system], self._image)
        self.directory.mkdir(mode=0o711)
        self.mount()

    def mount(self) -> None:
        """Mount it; it recovers by its journal. Raises CalledProcessError."""
        _run("mount", "-t", self._file_system, "-o", "loop", self._image, self.directory)

    def lose_power(self) -> None:
        """From this instant on nothing reaches the device: no page, and nothing of the journal."""
        descriptor = os.open(self.directory, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, GOING_DOWN, struct.pack("I", WITHOUT_FLUSHING_THE_LOG))
        finally:
            os.close(descriptor)

    def unmount(self) -> None:
        """Unmount it as soon as no process uses it any more. Raises CalledProcessError."""
        deadline = time.monotonic() + SECONDS_TO_LET_GO
        while True:
            try:
                _run("umount", self.directory)
                return
            except subprocess.CalledProcessError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.1)


def missing(file_system: str) -> str | None:
    """Why this machine can't do it; None if it can."""
    if os.geteuid() != 0:
        return "only root can mount file systems"
    if not Path("/dev/loop-control").exists():
        return "there are no loop devices"
    for program in (FILE_SYSTEMS[file_system][0], "unshare"):
        if shutil.which(program) is None:
            return f"there is no {program}"
    if subprocess.run([*IN_OWN_NAMESPACE, "true"], capture_output=True, check=False).returncode:
        return "this root may not mount"
    return None


def run_in_own_namespace(module: str) -> None:
    """Run this program again, with mounts of its own; return if it has them already.

    A program that somebody starts meanwhile, with a copy of all mounts, would keep the file system
    alive that has lost its power. If this program is killed, its mounts are gone.
    """
    if os.environ.get(HAS_NAMESPACE) != "yes":
        os.environ[HAS_NAMESPACE] = "yes"
        command = [*IN_OWN_NAMESPACE, sys.executable, "-m", module, *sys.argv[1:]]
        os.execvp(command[0], command)


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
