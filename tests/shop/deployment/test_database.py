"""DATABASE_URL: what it may be, and what is said of one that is wrong."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from django.core.exceptions import ImproperlyConfigured
from psycopg.conninfo import make_conninfo
from psycopg.pq import PGconn

from shop.deployment import database
from shop.deployment.embedded_postgres import DATABASE, PORT, EmbeddedPostgres
from tests.shop.programs import (
    AS_NOBODY,
    ServerUser,
    clean_up,
    copy_checkout,
    keepers,
    manage,
    needs_ordinary_user,
    postmaster,
    wait_until_stopped,
)

FORM = "postgres://user:password@host:5432/name"
SECRET = {"SECRET_KEY": "x" * 50}
NAME = "o'brien@home"
PASSWORD = "p@:/?#%&+ ü"


@pytest.fixture(scope="module")
def checkout() -> Iterator[Path]:
    """A checkout of its own, so that no .env of a developer's takes part."""
    with tempfile.TemporaryDirectory(prefix="shop-test-") as directory:
        Path(directory).chmod(0o755)
        yield copy_checkout(Path(directory).resolve() / "checkout")
        clean_up(Path(directory).resolve() / "checkout" / ".postgres")


@pytest.fixture(scope="module")
def socket_dir() -> Iterator[Path]:
    """Where a server listens that asks for a password: ``NAME``'s is ``PASSWORD``."""
    with tempfile.TemporaryDirectory(prefix="shop-test-") as directory:
        Path(directory).chmod(0o755)
        home = Path(directory).resolve() / ".postgres"
        user = ServerUser(home).ready()
        password = PASSWORD.replace("'", "''")
        user.execute(f"CREATE ROLE \"{NAME}\" LOGIN SUPERUSER PASSWORD '{password}'")
        (home / "data" / "pg_hba.conf").write_text("local all all scram-sha-256\n")
        postmaster(home).send_signal(1)  # SIGHUP: read it again
        yield EmbeddedPostgres(home).socket_dir
        user.leave()
        wait_until_stopped(home)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("sqlite:///db.sqlite3", f"must name a PostgreSQL database, as in {FORM}"),
        ("mysql://u:pa55word@h/n", f"must name a PostgreSQL database, as in {FORM}"),
        ("garbage", f"must name a PostgreSQL database, as in {FORM}"),
        ("postgres://u:pa55word@h", "names no database"),
        ("postgres://u:pa55word@h/", "names no database"),
        ("postgres://u:pa55word@h:port/n", "has a port that is no number"),
        ("postgres://u:pa55word@h:1/n?nonsense=1", "invalid URI query parameter"),
        ("postgres://u:pa55word@[::1/n", "can't be read"),
        ("postgres://u:100%@h/n", "percent-encoded (@ is %40)"),
    ],
)
def test_a_wrong_url_is_named(url: str, complaint: str) -> None:
    with pytest.raises(ImproperlyConfigured) as raised:
        database.configure(url, Path("/nowhere"))
    assert complaint in str(raised.value)
    assert "DATABASE_URL" in str(raised.value)
    assert "pa55word" not in str(raised.value)


CHECK = ("check", "--database", "default")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "url", "complaint"),
    [
        (CHECK, "sqlite:///db.sqlite3", f"must name a PostgreSQL database, as in {FORM}"),
        (CHECK, "postgres://u:pa55word@nowhere.invalid/n", "failed to resolve host"),
        (CHECK, "postgres://u:pa55word@127.0.0.1:1/n", "Connection refused"),
        (CHECK, "postgres://u:pa55word@127.0.0.1:1/n?sslmode=x", "invalid sslmode value"),
        (CHECK, "postgres:///n?host=/no/such/place", "No such file or directory"),
        (("migrate",), "mysql://u:pa55word@h/n", "must name a PostgreSQL database"),
        (("migrate",), "postgres://u:pa55word@127.0.0.1:1/n", "The database can't be reached"),
    ],
)
def test_commands_end_with_a_message(
    checkout: Path, command: tuple[str, ...], url: str, complaint: str
) -> None:
    run = manage(*command, checkout=checkout, env={**SECRET, "DATABASE_URL": url})
    assert complaint in run.stderr
    assert "DATABASE_URL" in run.stderr
    assert "pa55word" not in run.stderr
    assert "Traceback" not in run.stderr
    assert run.returncode == 1


def url_of(socket_dir: Path, password: str = PASSWORD, name: str = DATABASE) -> str:
    user, word, host = (quote(part, safe="") for part in (NAME, password, str(socket_dir)))
    return f"postgres://{user}:{word}@{host}:{PORT}/{name}?sslmode=require&connect_timeout=9"


@pytest.mark.slow
def test_special_characters_options_and_a_sockets_directory_work(
    checkout: Path, socket_dir: Path
) -> None:
    env = {**SECRET, "DATABASE_URL": url_of(socket_dir)}
    run = manage("migrate", "--verbosity=0", checkout=checkout, env=env)
    assert (run.returncode, run.stderr) == (0, "")
    in_query = f"postgresql:///{DATABASE}?host={socket_dir}&user={quote(NAME)}"
    env = {**SECRET, "DATABASE_URL": f"{in_query}&password={quote(PASSWORD, safe='')}"}
    run = manage("migrate", "--check", checkout=checkout, env=env)
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"password": "pa55word"}, "password authentication failed"),
        ({"name": "none"}, 'database "none" does not exist'),
    ],
)
def test_what_the_server_refuses_is_explained(
    checkout: Path, socket_dir: Path, wrong: dict[str, str], complaint: str
) -> None:
    env = {**SECRET, "DATABASE_URL": url_of(socket_dir, **wrong)}
    run = manage("migrate", checkout=checkout, env=env)
    assert "The database can't be reached" in run.stderr
    assert complaint in run.stderr
    assert "Is DATABASE_URL right" in run.stderr
    assert "Traceback" not in run.stderr
    assert "pa55word" not in run.stderr
    assert run.returncode == 1


@pytest.mark.slow
def test_tables_that_are_missing_are_explained(checkout: Path, socket_dir: Path) -> None:
    env = {**SECRET, "DATABASE_URL": url_of(socket_dir, name="postgres")}
    run = manage("clearsessions", checkout=checkout, env=env)
    assert "Run: python manage.py migrate" in run.stderr
    assert "Traceback" not in run.stderr
    assert run.returncode == 1


def test_the_parts_of_a_url_become_djangos_settings() -> None:
    url = (
        "postgres://u%40x:p%3A%2F@one:5433,two:5434/n?sslmode=require&target_session_attrs=primary"
    )
    settings = database.configure(url, Path("/nowhere"))
    assert {key: settings[key] for key in ("NAME", "USER", "PASSWORD", "HOST", "PORT")} == {
        "NAME": "n",
        "USER": "u@x",
        "PASSWORD": "p:/",
        "HOST": "one,two",
        "PORT": "5433,5434",
    }
    assert settings["OPTIONS"] == {
        **database.NOTICE_WHEN_AWAY,
        "sslmode": "require",
        "target_session_attrs": "primary",
    }


@pytest.mark.parametrize(
    ("in_url", "milliseconds"), [("", 20_000), ("?tcp_user_timeout=7000", 7000)]
)
def test_a_server_that_vanished_without_a_word_is_noticed_soon(
    in_url: str, milliseconds: int
) -> None:
    """Ask the connection's socket. Nobody answers here: the kernel has let us in."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"postgres://u@127.0.0.1:{server.getsockname()[1]}/n{in_url}"
        options = database.configure(url, Path("/nowhere"))["OPTIONS"]
        connection = PGconn.connect_start(make_conninfo(url, **options).encode())
        with socket.socket(fileno=os.dup(connection.socket)) as client:
            assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == milliseconds
            assert client.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            idle, interval, count = (
                client.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            )
            assert idle + interval * count == 20
        connection.finish()


@pytest.mark.slow
def test_without_a_url_the_checkouts_own_server_runs(checkout: Path) -> None:
    for env in (SECRET, {**SECRET, "DATABASE_URL": ""}):
        run = manage(*CHECK, checkout=checkout, env=env)
        assert (run.returncode, run.stderr) == (0, "")
        assert keepers(checkout / ".postgres")  # it lingers for the next command


@pytest.mark.slow
def test_its_directory_may_be_a_link_to_another_disk(checkout: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="shop-test-") as directory:
        Path(directory).chmod(0o755)
        linked = copy_checkout(Path(directory).resolve() / "checkout")
        disk = Path(directory).resolve() / "disk"
        disk.mkdir(mode=0o700)
        (linked / ".postgres").symlink_to(disk)
        try:
            run = manage(*CHECK, checkout=linked, env=SECRET)
            assert (run.returncode, run.stderr) == (0, "")
            assert (disk / "data" / "postmaster.pid").exists()
        finally:
            clean_up(disk)


@pytest.mark.slow
@needs_ordinary_user
def test_a_checkout_of_somebody_else_is_explained(checkout: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="shop-test-") as directory:
        os.chmod(directory, 0o755)
        other = copy_checkout(Path(directory) / "checkout")
        run = manage(*CHECK, checkout=other, env=SECRET, **AS_NOBODY)
        assert f"The private PostgreSQL can't use {other / '.postgres'}" in run.stderr
        assert "Set DATABASE_URL" in run.stderr
        assert "Traceback" not in run.stderr
        assert run.returncode == 1
        run = manage("check", "--deploy", checkout=other, **AS_NOBODY)
        assert "(shop.E005) SECRET_KEY isn't set, and none can be kept in" in run.stderr
        assert "Traceback" not in run.stderr
        assert run.returncode == 1
