"""`manage.py demo`: one command from nothing to a shop that is being served."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import psutil
import pytest
from django.contrib.auth.models import User

from inventory import monitor
from inventory.models import FlashSale, Product
from shop import serving, staff
from tests import command_line

pytestmark = pytest.mark.django_db(transaction=True)


def demo(*arguments: str) -> str:
    process = command_line.start("demo", "--no-serve", *arguments)
    output, errors = process.communicate(timeout=180)
    assert process.returncode == 0, errors
    return output


def test_it_fills_the_shop_and_shows_who_oversells_and_does_it_again() -> None:
    first = demo()
    assert "sold 15 of 10: 5 buyers will be disappointed" in first
    products = set(Product.objects.catalogue().values_list("sku", "stock", "units_received"))
    assert len(products) >= 10
    assert monitor.check() == []
    password = re.search(r"Staff user: +admin, password (\S+)", first)
    assert password
    assert User.objects.get(username="admin").check_password(password[1])

    second = demo()
    assert "password" not in second
    assert (
        set(Product.objects.catalogue().values_list("sku", "stock", "units_received")) == products
    )
    assert FlashSale.objects.count() == 2


def test_nobody_is_promoted_by_having_the_name_of_staff() -> None:
    User.objects.create_user("admin", password="mine")
    made = staff.ensure_somebody()
    assert made is not None
    assert made[0] != "admin"
    assert User.objects.get(username=made[0]).is_superuser
    assert not User.objects.get(username="admin").is_staff
    assert staff.ensure_somebody() is None


@pytest.fixture
def free_port() -> int:
    return serving.free_port()


@pytest.fixture
def served(free_port: int) -> Iterator[subprocess.Popen[str]]:
    process = command_line.start("demo", "--port", str(free_port), start_new_session=True)
    try:
        wait_for_the_shop(free_port, process)
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for_the_shop(port: int, process: subprocess.Popen[str], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10) as answer:
                assert answer.status == 200
                return
        except urllib.error.URLError:
            time.sleep(0.2)
    raise AssertionError("the shop isn't served")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_the_shop_is_served_and_ends_cleanly(served: subprocess.Popen[str], how: int) -> None:
    programs = psutil.Process(served.pid).children(recursive=True)
    assert {"gunicorn", "procrastinate"} <= {word for each in programs for word in each.cmdline()}
    served.send_signal(how)
    _, errors = served.communicate(timeout=60)
    assert served.returncode == 0, errors
    assert "Traceback" not in errors
    _, alive = psutil.wait_procs(programs, timeout=5)
    assert not alive


def test_a_port_that_is_taken_is_told_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = command_line.start("demo", "--port", str(port))
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert f"port: {port} can't be used (Address already in use). Choose another one" in errors
    assert not FlashSale.objects.exists()


def test_a_port_that_is_none_is_told_too() -> None:
    process = command_line.start("demo", "--port", "70000")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "port: 70000 won't do; it must be 1 to 65535." in errors
