"""Programs that tests run: users of a private PostgreSQL, and manage.py."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from shop.deployment.embedded_postgres import EmbeddedPostgres

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = sysconfig.get_path("platlib")
KEEPER = "embedded_postgres/server.py"
NOBODY = 65534
SECONDS = 60  # after which a test gives up

AS_NOBODY: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []}

# Uses the server, prints "ready", runs each line of its input as SQL, and prints the result.
USER = """
import sys
from pathlib import Path
import psycopg
from shop.deployment.embedded_postgres import (
    DATABASE, PORT, USER, EmbeddedPostgres, EmbeddedPostgresError
)

server = EmbeddedPostgres(Path(sys.argv[1]), linger=float(sys.argv[2]))
try:
    server.use()
except EmbeddedPostgresError as error:
    sys.exit(str(error))
print("ready", flush=True)
for statement in sys.stdin:
    where = {"host": str(server.socket_dir), "port": PORT, "user": USER, "dbname": DATABASE}
    with psycopg.connect(autocommit=True, **where) as connection:
        cursor = connection.execute(statement)
        print(cursor.fetchone()[0] if cursor.description else "done", flush=True)
"""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can do this")


def anybody_may_run(path: str | Path) -> bool:
    real = Path(path).resolve()
    return real.exists() and all(place.stat().st_mode & 0o001 for place in [real, *real.parents])


def python_for_anybody() -> str | None:
    """A Python of our version that an ordinary user may run; root's may be out of reach."""
    installed = shutil.which(f"python3.{sys.version_info.minor}", path="/usr/local/bin:/usr/bin")
    for python in (sys.executable, installed):
        if python is not None and anybody_may_run(python):
            return python
    return None


needs_ordinary_user = pytest.mark.skipif(
    os.geteuid() != 0
    or python_for_anybody() is None
    or not anybody_may_run(ROOT)
    or not anybody_may_run(PACKAGES),
    reason="only root can run as somebody else, and only programs that others may run",
)


class ServerUser:
    """A process that uses the server in ``home``. Warnings are errors in it."""

    def __init__(self, home: Path, linger: float = 0, program: str = USER, **options: Any) -> None:
        python = python_for_anybody() if "user" in options else sys.executable
        assert python is not None
        environment = {
            **os.environ,
            "PYTHONPATH": f"{ROOT}:{PACKAGES}",
            "PYTHONDONTWRITEBYTECODE": "1",
            **options.pop("env", {}),
        }
        self.process = subprocess.Popen(
            [python, "-X", "dev", "-W", "error", "-c", program, home, str(linger)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd="/",
            **options,
        )

    def ready(self) -> ServerUser:
        assert self._answer() == "ready"
        return self

    def execute(self, statement: str) -> str:
        """Run one line of SQL; return the first value of the first row, or "done"."""
        assert self.process.stdin is not None
        self.process.stdin.write(statement + "\n")
        self.process.stdin.flush()
        return self._answer()

    def leave(self) -> None:
        """End as programs do, without a warning."""
        _, complaints = self.process.communicate(timeout=SECONDS)
        assert complaints == ""
        assert self.process.returncode == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=SECONDS)

    def complaint(self) -> str:
        """The program's words when it gave up."""
        complaints: str = self.process.communicate(timeout=SECONDS)[1]
        assert self.process.returncode == 1, complaints
        assert "Traceback" not in complaints
        return complaints

    def _answer(self) -> str:
        assert self.process.stdout is not None
        line: str = self.process.stdout.readline().strip()
        if not line:
            raise AssertionError(self.process.communicate(timeout=SECONDS)[1])
        return line


def keepers(home: Path) -> list[psutil.Process]:
    return [p for p in _processes() if _is_keeper(p, home)]


def servers(home: Path) -> list[psutil.Process]:
    """The postmaster and its children."""
    return [p for p in _processes() if _cwd(p) in (str(home / "data"), f"{home}/data (deleted)")]


def postmaster(home: Path) -> psutil.Process:
    return psutil.Process(int((home / "data" / "postmaster.pid").read_text().split()[0]))


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.1)


def wait_until_stopped(home: Path) -> None:
    """Return when neither server nor keeper runs any more."""
    wait_until(lambda: not servers(home) and not keepers(home), "the server stopped")
    assert not (home / "data" / "postmaster.pid").exists()


def clean_up(home: Path) -> None:
    """Kill what a failed test left running, and remove the files."""
    for process in keepers(home) + servers(home):
        with suppress(psutil.NoSuchProcess):  # it has ended by itself
            process.kill()
    wait_until(lambda: not servers(home) and not keepers(home), "the killed ended")
    shutil.rmtree(home, ignore_errors=True)
    socket_dir = EmbeddedPostgres(home).socket_dir
    if socket_dir.is_symlink():
        socket_dir.unlink()
    shutil.rmtree(socket_dir, ignore_errors=True)


def manage(
    *arguments: str, checkout: Path = ROOT, env: dict[str, str] | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run manage.py with only these variables and those that every program needs."""
    python = python_for_anybody() if "user" in options else sys.executable
    assert python is not None
    return subprocess.run(
        [python, "-W", "error", checkout / "manage.py", *arguments],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": PACKAGES,
            "PYTHONDONTWRITEBYTECODE": "1",
            **(env or {}),
        },
        cwd=checkout,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        **options,
    )


def copy_checkout(to: Path) -> Path:
    """A checkout without what git ignores: no .env, no key, no database."""
    to.mkdir(exist_ok=True)
    for name in ("shop", "inventory", "templates"):
        if (ROOT / name).exists():
            shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "manage.py", to)
    return to


def _processes() -> list[psutil.Process]:
    return list(psutil.process_iter())


def _is_keeper(process: psutil.Process, home: Path) -> bool:
    try:
        arguments = process.cmdline()
    except psutil.Error:
        return False
    return str(home) in arguments and any(a.endswith(KEEPER) for a in arguments)


def _cwd(process: psutil.Process) -> str:
    try:
        return process.cwd()
    except psutil.Error:
        return ""
