"""`manage.py demo`: one command from nothing to a served shop."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from axes.models import AccessAttempt
from django.contrib.auth.models import User

from inventory import monitor
from inventory.experiments.models import FlashSale
from inventory.models import Product
from shop.demo import staff
from shop.demo.management.commands import demo as demo_command
from shop.load_tests import serving
from tests import command_line

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


def demo(*arguments: str) -> str:
    process = command_line.start("demo", "--no-serve", *arguments)
    output, errors = process.communicate(timeout=180)
    assert process.returncode == 0, errors
    return output


def test_it_fills_the_shop_and_runs_a_flash_sale_and_can_be_repeated() -> None:
    first = demo()
    assert "sold 15 of 10: 5 buyers will be disappointed" in first
    products = set(Product.objects.catalogue().values_list("sku", "stock", "units_received"))
    assert len(products) >= 10
    assert monitor.check() == []
    password = re.search(r"Staff user: +admin, password (\S+)", first)
    assert password
    assert User.objects.get(username="admin").check_password(password[1])

    second = demo()
    assert password[1] not in second
    assert "python manage.py demo --password" in second
    assert (
        set(Product.objects.catalogue().values_list("sku", "stock", "units_received")) == products
    )
    assert FlashSale.objects.count() == 2


def test_a_lost_password_is_replaced_and_nothing_else_is_done() -> None:
    User.objects.create_user("admin-2", password="mine", is_staff=True)
    User.objects.create_superuser("boss", password="lost")
    AccessAttempt.objects.create(username="boss", failures_since_start=9)
    output = demo("--password")
    password = re.search(r"Staff user: +boss, password (\S+)", output)
    assert password
    assert User.objects.get(username="boss").check_password(password[1])
    assert User.objects.get(username="admin-2").check_password("mine")
    assert not AccessAttempt.objects.exists()
    assert not FlashSale.objects.exists()


def test_a_new_password_without_staff_makes_a_superuser() -> None:
    name, password = staff.renew_password()
    assert User.objects.get(username=name, is_superuser=True).check_password(password)
    again, another = staff.renew_password()
    assert again == name
    assert another != password


def test_a_user_with_the_name_of_staff_is_not_promoted() -> None:
    User.objects.create_user("admin", password="mine")
    made = staff.ensure_staff()
    assert made is not None
    assert made[0] != "admin"
    assert User.objects.get(username=made[0]).is_superuser
    assert not User.objects.get(username="admin").is_staff
    assert staff.ensure_staff() is None


@pytest.fixture
def free_port() -> int:
    return serving.free_port()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "demo.log"


@pytest.fixture
def served(free_port: int, log: Path) -> Iterator[subprocess.Popen[str]]:
    arguments = ["demo", "--port", str(free_port), "--log", str(log)]
    process = command_line.start(*arguments, start_new_session=True)
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


def test_e_mails_are_sent_if_a_mail_server_is_set_and_kept_otherwise(
    settings: Any,
) -> None:
    for printed_or_kept in (
        "django.core.mail.backends.console.EmailBackend",
        "shop.notifications.outbox.EmailBackend",
    ):
        settings.EMAIL_BACKEND = printed_or_kept
        assert demo_command.variables() == {"DEMO": "true", "EMAIL_URL": "outbox://"}
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    assert demo_command.variables() == {"DEMO": "true"}


def lines_until(process: subprocess.Popen[str], beginning: str) -> list[str]:
    """The text lines of the output up to the first that begins with this."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if line.startswith(beginning):
            return lines
    raise AssertionError(f"No line begins with {beginning!r}: {lines}")


@pytest.mark.parametrize(
    "how", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.thorough)]
)
def test_the_shop_is_served_and_ends_cleanly(
    served: subprocess.Popen[str], free_port: int, log: Path, how: int
) -> None:
    programs = psutil.Process(served.pid).children(recursive=True)
    assert {"gunicorn", "procrastinate"} <= {word for each in programs for word in each.cmdline()}
    with urllib.request.urlopen(f"http://127.0.0.1:{free_port}/demo/outbox/") as page:
        assert "E-mails of this demo" in page.read().decode()
    output = lines_until(served, "To end:")
    served.send_signal(how)
    rest, errors = served.communicate(timeout=60)
    assert served.returncode == 0, errors
    assert errors == ""
    # The screen ends with the lines that people need. Lines about requests are in the file.
    shop = f"http://localhost:{free_port}"
    said = dict(line.split(":", 1) for line in output[-9:] if ":" in line)
    assert said["The shop"].strip() == f"{shop}/"
    assert said["The admin"].strip() == f"{shop}/admin/"
    assert re.fullmatch(r"admin, password \S+", said["Staff user"].strip())
    assert said["E-mails"].strip() == f"{shop}/demo/outbox/"
    assert said["Log"].strip() == str(log)
    assert rest == ""
    assert "GET /demo/outbox/" in log.read_text()
    _, alive = psutil.wait_procs(programs, timeout=60)
    assert not alive


def test_a_port_that_is_taken_is_named_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = command_line.start("demo", "--port", str(port))
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert f"port: {port} can't be used (Address already in use). Choose another one" in errors
    assert not FlashSale.objects.exists()


def test_a_log_that_cannot_be_written_is_named_at_once(free_port: int) -> None:
    process = command_line.start("demo", "--port", str(free_port), "--log", "/nowhere/demo.log")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "log: [Errno 2] No such file or directory: '/nowhere/demo.log'" in errors
    assert not FlashSale.objects.exists()


def test_a_wrong_port_is_named() -> None:
    process = command_line.start("demo", "--port", "70000")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "port: must be 1 to 65535, not 70000." in errors
