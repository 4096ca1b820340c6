"""The files of gunicorn's processes for their counts, in prometheus_client's multiprocess mode.

Each gunicorn makes a directory of its own. Each of its processes takes a slot there: a number, and
the files of that number. A process that is killed or replaced leaves its slot to the next one,
which goes on with the same counts. So no count ever falls, and there are never more files than
processes at a time. The kernel frees the slot of a process that ends, since it is a lock.

The files are mapped into memory. Writing to a page that the disk has no room for would kill the
process (SIGBUS), so all room is reserved first. Where there is none, something isn't counted.
"""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import prometheus_client.values
from prometheus_client.mmap_dict import MmapedDict

log = logging.getLogger(__name__)

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Names the directory; prometheus_client reads it, too."""
PREFIX = "shop-metrics-"
FIRST_SIZE = 256 * 1024  # bytes of a file; it is doubled when it is full
MOST_SLOTS = 10_000

_kept_locks: dict[str, int] = {}  # open files, each with a lock that lasts as long as we do
_slot: tuple[int, str] = (0, "")  # of the process with this id


# For gunicorn's master


def make_directory() -> None:
    """Make the directory of this gunicorn, and remove those of gunicorns that were killed.

    The new master of an upgrade (SIGUSR2) shares the directory with the old one: both answer for a
    while, and a scrape of either must show the counts of both.
    """
    parent = Path(tempfile.gettempdir())
    given = Path(os.environ.get(VARIABLE, ""))
    if "GUNICORN_PID" in os.environ and given.name.startswith(PREFIX) and _share(given):
        return
    try:
        _remove_leftovers(parent)
        made = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        while not _share(made):  # another gunicorn took it for a leftover
            made = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    except OSError as error:
        log.error("Requests and reservations are not counted for /metrics: %s", error)
        made = parent / f"{PREFIX}missing"
    os.environ[VARIABLE] = str(made)


def remove_directory() -> None:
    """Remove the directory, unless another master still uses it. Its processes have ended."""
    lock = _kept_locks.pop(os.environ.get(VARIABLE, ""), None)
    if lock is not None:
        _remove_unless_used(Path(os.environ[VARIABLE]), lock)
        os.close(lock)


def _share(directory: Path) -> bool:
    """Keep the directory in use as long as this process and its children live; False if it's gone.

    The lock also keeps systemd-tmpfiles from tidying the directory up.
    """
    try:
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return False
    fcntl.flock(lock, fcntl.LOCK_SH)
    if not directory.exists():
        os.close(lock)
        return False
    _kept_locks[str(directory)] = lock
    return True


def _remove_leftovers(parent: Path) -> None:
    for directory in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):  # it isn't ours, or no directory
            if directory.stat().st_uid != os.geteuid():
                continue
            lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                _remove_unless_used(directory, lock)
            finally:
                os.close(lock)


def _remove_unless_used(directory: Path, lock: int) -> None:
    with suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(directory, ignore_errors=True)


# For the processes that count


def directory() -> str | None:
    """The directory of this gunicorn; None outside of gunicorn, where one process counts alone."""
    return os.environ.get(VARIABLE)


def use_slots() -> None:
    """Let all counters that are made from now on count in the files of this process's slot."""
    # MultiProcessValue takes its class from there: there is no other way to hand it another one.
    prometheus_client.values.MmapedDict = ReservedDict  # type: ignore[attr-defined]
    prometheus_client.values.ValueClass = prometheus_client.values.MultiProcessValue(slot)  # type: ignore[no-untyped-call]


def slot() -> str:
    """The slot of this process, taken at the first call; after a fork, another one."""
    global _slot
    if _slot[0] != os.getpid():
        _slot = os.getpid(), _take_slot(os.environ[VARIABLE])
    return _slot[1]


def _take_slot(directory: str) -> str:
    for number in range(MOST_SLOTS):
        path = f"{directory}/{number}.lock"
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:  # its files can't be made either, and so nothing is counted
            break
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        _kept_locks[path] = lock
        return str(number)
    return f"process-{os.getpid()}"


class ReservedDict(MmapedDict):
    """Counts by key in a file, all of whose room is reserved. It keeps no key that has no room."""

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        try:
            make_file(filename)
            super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]
        except OSError as error:
            self._f = self._m = None  # type: ignore[assignment]
            self._positions = {}
            log.error("The counts of this process aren't kept: %s", error)

    def read_value(self, key: str) -> tuple[float, float]:
        """The value and its time; zeros for a key that isn't kept."""
        if key not in self._positions and not self._add(key):
            return 0.0, 0.0
        value: tuple[float, float] = super().read_value(key)  # type: ignore[no-untyped-call]
        return value

    def write_value(self, key: str, value: float, timestamp: float) -> None:
        if key in self._positions:
            super().write_value(key, value, timestamp)  # type: ignore[no-untyped-call]

    def _add(self, key: str) -> bool:
        """Begin to keep a key; return whether there is room for it."""
        if self._f is None:
            return False
        try:
            while self._used + len(key.encode()) + 32 > self._capacity:
                self._double()
        except OSError as error:
            log.error("Not counted: %s: %s", key, error)
            return False
        self._init_value(key)  # type: ignore[no-untyped-call]
        return True

    def _double(self) -> None:
        os.posix_fallocate(self._f.fileno(), 0, 2 * self._capacity)
        self._m = mmap.mmap(self._f.fileno(), 2 * self._capacity)
        self._capacity *= 2


def make_file(name: str) -> None:
    """Make the file, unless it is there. Others see it only when its room is reserved.

    Raises OSError, and leaves nothing behind.
    """
    if os.path.exists(name):
        return
    unready = f"{name}.unready"
    file = os.open(unready, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.posix_fallocate(file, 0, FIRST_SIZE)
        os.rename(unready, name)
    except OSError:
        os.unlink(unready)
        raise
    finally:
        os.close(file)
