"""Messages to systemd."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from shop.deployment.service_manager import READY, ServiceManager


@pytest.fixture
def bind(tmp_path: Path) -> Iterator[Callable[[str], socket.socket]]:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as receiver:
        receiver.settimeout(10)

        def bind_to(address: str) -> socket.socket:
            receiver.bind(address)
            return receiver

        yield bind_to


def test_it_sends_lines_to_the_socket_of_a_file(
    bind: Callable[[str], socket.socket], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = bind(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    ServiceManager().send(READY, "STATUS=Working.")
    assert receiver.recv(1000) == b"READY=1\nSTATUS=Working."


def test_it_sends_to_a_socket_without_a_file(
    bind: Callable[[str], socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"shop-test-{os.getpid()}"
    receiver = bind(f"\0{name}")
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
    ServiceManager().send(READY)
    assert receiver.recv(1000) == b"READY=1"


@pytest.mark.parametrize("address", ["", "/no/such/socket", "x" * 200])
def test_it_never_fails(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.setenv("WATCHDOG_USEC", "1000")
    manager = ServiceManager()
    manager.send(READY)
    manager.send_reloading()
    manager.send_alive()


def test_programs_that_we_start_get_no_variables_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the one that takes our place does."""
    given = {"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert ServiceManager().variables() == given
    assert not set(given) & set(os.environ)
    assert ServiceManager().variables() == {}


@pytest.mark.parametrize(
    ("microseconds", "process", "seconds"),
    [
        ("60000000", "", 30.0),
        ("60000000", "ours", 30.0),
        ("60000000", "1", None),  # it waits for another process
        ("", "", None),
        ("0", "", None),
        ("soon", "", None),
    ],
)
def test_it_pings_twice_as_often_as_systemd_wants(
    microseconds: str, process: str, seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if process == "ours" else process)
    assert ServiceManager().seconds_between_pings() == seconds
