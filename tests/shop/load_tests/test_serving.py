"""Programs that run together: one that ends is started again. One that can't run ends them all."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from shop.load_tests import serving

RUNS_FOR_EVER = [sys.executable, "-c", "import time; time.sleep(600)"]


def run_together(program: str) -> int:
    """Run this Python program beside one that runs for ever."""
    commands = [RUNS_FOR_EVER, [sys.executable, "-c", program]]
    return serving.run_together(
        commands, variables={}, log=None, url="http://127.0.0.1:1", on_ready=lambda: None
    )


def test_a_program_that_ends_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(serving, "SECONDS_TO_BE_STABLE", 0)
    starts = tmp_path / "starts"
    program = (
        "import os, signal, sys, time\n"
        f"with open({str(starts)!r}, 'a') as file: file.write('started\\n')\n"
        f"if open({str(starts)!r}).read().count('started') == 1: sys.exit(7)\n"
        "os.kill(os.getppid(), signal.SIGTERM)\n"
        "time.sleep(600)\n"
    )
    assert run_together(program) == 0
    assert starts.read_text().count("started") == 2
    assert "has ended with exit code 7. Starting it again." in capsys.readouterr().err


@pytest.mark.parametrize(("code", "returned"), [(3, 3), (0, 1)])
def test_a_program_that_only_ends_again_ends_them_all(code: int, returned: int) -> None:
    assert run_together(f"raise SystemExit({code})") == returned


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody could listen beside us")
def test_a_free_port_is_kept_for_the_program_that_will_listen_there() -> None:
    address = "127.0.0.1", serving.free_port()
    with socket.socket() as somebody, pytest.raises(OSError, match="in use"):
        somebody.bind(address)
    for _ in range(2):  # a server that is started again, too
        with socket.create_server(address), socket.create_connection(address):
            pass
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
