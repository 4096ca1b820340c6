"""The systemd units, and what the programs that they start tell systemd."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from django.db import connection
from procrastinate.contrib.django import app as jobs_app
from procrastinate.contrib.django.models import ProcrastinateJob

from shop.deployment.database import url_of
from shop.load_tests.serving import free_port
from tests.command_line import ROOT, database_url, environment
from tests.shop.programs import SECONDS, wait_until

UNITS = sorted((ROOT / "shop" / "deployment" / "systemd").glob("*.service"))
HOME = "/srv/shop"  # in the units
PROGRAMS = Path(sys.executable).parent  # the checkout's .venv/bin, wherever that is
PINGS = {"WATCHDOG_USEC": "500000"}
SECONDS_WITHOUT_PING = 3

django_db = pytest.mark.django_db(transaction=True)


def read(unit: Path) -> dict[str, list[str]]:
    """The settings of the section [Service], each with all its values."""
    parser = configparser.RawConfigParser(strict=False, dict_type=dict)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(unit.read_text())
    found: dict[str, list[str]] = {name: [] for name in parser["Service"]}
    for name, value in re.findall(r"(?m)^(\w+)=(.*)$", unit.read_text()):
        found.setdefault(name, []).append(value)
    return found


def command(name: str, setting: str = "ExecStart") -> list[str]:
    """A command line of a unit, with this checkout's programs."""
    unit = read(ROOT / "shop" / "deployment" / "systemd" / f"shop-{name}.service")
    here = unit[setting][0].replace(f"{HOME}/.venv/bin", str(PROGRAMS))
    return shlex.split(here.replace(str(HOME), str(ROOT)))


# The files


def test_systemd_understands_them(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        if os.environ.get("REQUIRE_SYSTEMD") == "1":
            pytest.fail("There is no systemd-analyze on the PATH.")
        pytest.skip("There is no systemd-analyze on the PATH.")
    assert [unit.name for unit in UNITS] == ["shop-web.service", "shop-worker.service"]
    for unit in UNITS:
        here = unit.read_text().replace(f"{HOME}/.venv/bin", str(PROGRAMS))
        (tmp_path / unit.name).write_text(here)
    done = subprocess.run(
        [program, "verify", "--man=no", *map(str, tmp_path.iterdir())],
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("unit", UNITS, ids=[unit.stem for unit in UNITS])
def test_they_come_back_whatever_happens(unit: Path) -> None:
    settings = read(unit)
    assert settings["Restart"] == ["always"]
    assert settings["StartLimitIntervalSec"] == ["0"]
    assert settings["Type"] == ["notify"]


def test_requests_under_way_have_their_time() -> None:
    from shop import gunicorn_conf

    web = read(UNITS[0])
    assert int(web["TimeoutStopSec"][0]) > gunicorn_conf.graceful_timeout
    # gunicorn says nothing while a reload or a stop waits for the old processes.
    assert int(web["WatchdogSec"][0]) > gunicorn_conf.timeout + gunicorn_conf.graceful_timeout


@pytest.mark.parametrize("name", ["web", "worker"])
def test_a_reload_asks_first_whether_the_code_is_right(name: str) -> None:
    assert command(name, "ExecReload")[1:] == ["manage.py", "check"]


# The programs


class Systemd:
    """A socket in systemd's place."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "notify"
        self.received: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self._programs: list[subprocess.Popen[str]] = []
        self._receiving = threading.Thread(target=self._receive)
        self._receiving.start()

    def start(self, command: list[str], **variables: str) -> subprocess.Popen[str]:
        # Programs inherit that a signal is ignored, as nohup does for SIGHUP. systemd ignores none.
        before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
        program = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**environment(), "NOTIFY_SOCKET": str(self.path), **PINGS, **variables},
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # no terminal, as with systemd
        )
        signal.signal(signal.SIGHUP, before)
        self._programs.append(program)
        return program

    def wait_for(self, line: str) -> None:
        wait_until(lambda: line in self.received, f"systemd gets {line}")

    def forget(self) -> None:
        self.received.clear()

    def close(self) -> None:
        for program in self._programs:
            if program.poll() is None:
                os.killpg(program.pid, signal.SIGKILL)
            program.wait()
        self._socket.shutdown(socket.SHUT_RD)  # which ends the thread's waiting
        self._receiving.join()
        self._socket.close()

    def _receive(self) -> None:
        while said := self._socket.recv(4096):
            self.received += said.decode().splitlines()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    manager = Systemd(tmp_path)
    yield manager
    manager.close()


def is_silent(systemd: Systemd) -> bool:
    """Whether no more pings come."""
    systemd.forget()
    threading.Event().wait(SECONDS_WITHOUT_PING)
    return "WATCHDOG=1" not in systemd.received


@django_db
@pytest.mark.longest
@pytest.mark.slow
def test_the_web_server_tells_how_far_it_is(systemd: Systemd) -> None:
    bind = f"127.0.0.1:{free_port()}"
    web = systemd.start(command("web"), BIND=bind, WEB_CONCURRENCY="1")
    systemd.wait_for("READY=1")
    with urllib.request.urlopen(f"http://{bind}/livez", timeout=SECONDS) as answer:
        assert answer.read() == b"ok\n"
    systemd.wait_for("WATCHDOG=1")

    before = psutil.Process(web.pid).children()
    systemd.forget()
    web.send_signal(signal.SIGHUP)
    systemd.wait_for("RELOADING=1")
    systemd.wait_for("READY=1")
    assert any(line.startswith("MONOTONIC_USEC=") for line in systemd.received)
    assert not set(before) & set(psutil.Process(web.pid).children())

    web.send_signal(signal.SIGSTOP)
    assert is_silent(systemd)
    web.send_signal(signal.SIGCONT)
    systemd.wait_for("WATCHDOG=1")

    web.terminate()
    assert web.wait(SECONDS) == 0
    systemd.wait_for("STOPPING=1")


@pytest.mark.slow
def test_a_web_server_that_cannot_load_the_shop_is_never_ready(systemd: Systemd) -> None:
    web = systemd.start([*command("web")[:-1], "shop.no_such_module"], BIND="127.0.0.1:0")
    assert web.wait(SECONDS) != 0
    assert "READY=1" not in systemd.received


ODD = {"DJANGO_SETTINGS_MODULE": "tests.shop.deployment.odd_jobs.settings"}
BACKENDS = "FROM pg_stat_activity WHERE application_name = 'watched-worker'"


def start_worker(systemd: Systemd, *options: str) -> subprocess.Popen[str]:
    url = f"{database_url()}&application_name=watched-worker"
    return systemd.start([*command("worker"), *options], DATABASE_URL=url, **ODD)


def queue(task: str, **arguments: str) -> int:
    name = f"tests.shop.deployment.odd_jobs.tasks.{task}"
    return int(jobs_app.configure_task(name).defer(**arguments))


def one_value(sql: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        [(value,)] = cursor.fetchall()
    return value


@django_db
@pytest.mark.slow
def test_the_worker_tells_how_far_it_is(systemd: Systemd, tmp_path: Path) -> None:
    worker = start_worker(systemd)
    systemd.wait_for("READY=1")
    assert one_value("SELECT count(*) FROM procrastinate_workers") == 1
    systemd.wait_for("WATCHDOG=1")

    # A reload: the job under way is done, then the same process starts anew.
    first = one_value("SELECT max(id) FROM procrastinate_workers")
    begun, may_end = tmp_path / "begun", tmp_path / "may_end"
    job = queue("take_a_while", begun=str(begun), may_end=str(may_end))
    wait_until(begun.exists, "the job has begun")
    systemd.forget()
    worker.send_signal(signal.SIGHUP)
    systemd.wait_for("RELOADING=1")
    assert "READY=1" not in systemd.received
    may_end.touch()
    systemd.wait_for("READY=1")
    assert ProcrastinateJob.objects.get(pk=job).status == "succeeded"
    assert worker.poll() is None
    assert one_value("SELECT min(id) FROM procrastinate_workers") > first

    worker.terminate()
    assert worker.wait(SECONDS) == 0
    systemd.wait_for("STOPPING=1")


@django_db
@pytest.mark.slow
def test_a_stop_counts_more_than_a_reload_under_way(systemd: Systemd, tmp_path: Path) -> None:
    worker = start_worker(systemd)
    systemd.wait_for("READY=1")
    begun, may_end = tmp_path / "begun", tmp_path / "may_end"
    queue("take_a_while", begun=str(begun), may_end=str(may_end))
    wait_until(begun.exists, "the job has begun")
    worker.send_signal(signal.SIGHUP)
    systemd.wait_for("RELOADING=1")
    worker.terminate()
    systemd.wait_for("STOPPING=1")
    may_end.touch()
    assert worker.wait(SECONDS) == 0


@django_db
@pytest.mark.slow
def test_a_worker_whose_database_is_away_lives(systemd: Systemd) -> None:
    worker = start_worker(systemd)
    systemd.wait_for("READY=1")
    with database_closed_to_new_connections() as elsewhere:
        elsewhere.execute(f"SELECT pg_terminate_backend(pid, 5000) {BACKENDS}")
        systemd.forget()
        wait_until(lambda: systemd.received.count("WATCHDOG=1") > 5, "systemd gets pings")
        assert "READY=1" not in systemd.received
    systemd.wait_for("READY=1")  # again: it had lost the database, and has it back
    assert worker.poll() is None


@contextmanager
def database_closed_to_new_connections() -> Iterator[psycopg.Connection]:
    """Yields a connection to another database of the server."""
    name = str(connection.settings_dict["NAME"])
    url = url_of({**connection.settings_dict, "NAME": "postgres"})
    with psycopg.connect(url.replace("postgres:", "postgresql:"), autocommit=True) as other:
        other.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        try:
            yield other
        finally:
            other.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')


@django_db
@pytest.mark.slow
def test_a_worker_whose_event_loop_hangs_is_silent(systemd: Systemd) -> None:
    start_worker(systemd)
    systemd.wait_for("WATCHDOG=1")
    job = queue("hang_event_loop")
    hanging = ProcrastinateJob.objects.filter(pk=job, status="doing")
    wait_until(hanging.exists, "the job hangs")
    assert is_silent(systemd)
