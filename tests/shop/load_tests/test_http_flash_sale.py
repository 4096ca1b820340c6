"""`manage.py http_flash_sale` and Locust's buyers: their targets, and the report about them."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from django import forms
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.db import connection

from inventory import monitor
from inventory.experiments.flash_sale.buyers import Ending
from inventory.experiments.models import FlashSale
from inventory.races.scratch import PREFIX
from inventory.reservations import reserve
from shop.forms import CheckoutForm
from shop.load_tests.http_flash_sale import buyers
from shop.models import Order
from tests import command_line
from tests.concurrency import lapse
from tests.conftest import MakeProduct

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


@pytest.fixture
def demo(live_server: Any, settings: Any) -> Iterator[str]:
    """The address of a shop that says it is a demo."""
    settings.DEMO = True
    cache.clear()
    yield live_server.url
    cache.clear()


# On a shop of its own


def test_a_safe_strategy_is_exact_and_naive_oversells(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    process = command_line.start(
        "http_flash_sale",
        *("--strategy", "combined", "--strategy", "naive"),
        *("--stock", "10", "--buyers", "40", "--think", "0", "--json", str(file)),
    )
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    report = json.loads(file.read_text())
    assert report.items() >= {"stock": 10, "buyers": 40, "workers": 2, "threads": 8}.items()
    assert (report["app"], report["fast_lane"]) == ("shop.asgi", True)
    assert "Served by shop.asgi: the fast lane reserves by combined" in " ".join(output.split())
    safe, naive = report["results"]
    assert safe["strategy"] == "combined"
    assert (safe["sold"], safe["refused"], safe["failed"]) == (10, 30, 0)
    assert (safe["stock_left"], safe["oversold"], safe["drift"]) == (0, 0, 0)
    assert safe["verdict"] == "exact"
    assert 0 < safe["p50_ms"] <= safe["p95_ms"] <= safe["p99_ms"]
    assert naive["failed"] == 0
    assert naive["oversold"] == naive["sold"] - 10 > 0
    assert f"sold {naive['sold']} of 10" in output
    # The project's own shop was left alone.
    assert not FlashSale.objects.exists()
    assert not Order.objects.exists()


def test_ctrl_c_ends_everything() -> None:
    process = command_line.start("http_flash_sale", "--think", "60", start_new_session=True)
    try:
        programs = wait_for_locust(process)
        database = database_of(programs)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Broken off; what was made for it is removed." in errors
    assert "Traceback" not in errors
    _, alive = psutil.wait_procs(programs, timeout=10)
    for program in alive:
        program.kill()
    assert not alive
    assert database.startswith(PREFIX)
    assert not database_exists(database)


def wait_for_locust(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Wait for Locust; return all programs that the command has started."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        programs = psutil.Process(process.pid).children(recursive=True)
        if any("locust" in program.cmdline() for program in programs):
            return programs
        time.sleep(0.1)
    raise AssertionError("no buyers are sent")


def database_of(programs: list[psutil.Process]) -> str:
    """The name of the database that gunicorn serves the shop on."""
    gunicorn = next(program for program in programs if "gunicorn" in program.cmdline())
    path: str = urlsplit(gunicorn.environ()["DATABASE_URL"]).path
    return path.removeprefix("/")


def database_exists(database: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT FROM pg_database WHERE datname = %s", [database])
        return bool(cursor.rowcount)


# On a shop that is served already


def test_a_shop_that_is_served_already_is_seen_from_outside(
    demo: str, make_product: MakeProduct, capsys: pytest.CaptureFixture[str]
) -> None:
    product = make_product(5)
    visit(demo, product.slug, "--buyers", "12", "--think", "0", "--json", "-", "--quiet")
    report = json.loads(capsys.readouterr().out)
    [result] = report["results"]
    assert result["product"] == product.slug
    assert (result["sold"], result["refused"], result["failed"]) == (5, 7, 0)
    assert (result["shown_before"], result["stock_left"]) == (5, 0)
    assert (result["oversold"], result["drift"]) == (0, 0)
    assert "Seen from outside" in report["checked"]
    assert Order.objects.filter(state=Order.State.PAID).count() == 5
    assert monitor.state_of(product.pk).sold == 5


def test_a_buyer_who_gets_an_unexpected_answer_has_failed(
    demo: str, make_product: MakeProduct, settings: Any
) -> None:
    product = make_product(5)
    settings.POSTS_PER_ADDRESS = "3/h"  # one purchase
    outcomes = buyers.send(demo, product.slug, 3, think=0)
    endings = [outcome.ending for outcome in outcomes]
    assert endings.count(Ending.FAILED) >= 2
    assert Ending.REFUSED not in endings
    errors = {outcome.error for outcome in outcomes if outcome.ending is Ending.FAILED}
    assert all(": 429: the shop limits how often one address may ask" in each for each in errors)


def test_a_shop_that_is_no_demo_is_left_alone(live_server: Any, make_product: MakeProduct) -> None:
    product = make_product(5)
    error = usage_error(live_server.url, product.slug)
    assert "doesn't say that it is a demo" in error
    assert "Serve it with DEMO=true, or give --i-own-this-shop." in error
    alone = locust_alone(live_server.url, product.slug)
    assert alone.returncode == 2
    assert "doesn't say that it is a demo" in alone.stderr
    assert "Traceback" not in alone.stderr
    assert monitor.state_of(product.pk).available == 5
    # Its owner may buy there.
    visit(live_server.url, product.slug, "--buyers", "1", "--think", "0", "--i-own-this-shop")
    assert monitor.state_of(product.pk).available == 4


def test_a_host_that_is_no_shop_is_named(demo: str) -> None:
    assert "has no product 'nothing'" in usage_error(demo, "nothing")
    assert "it must be like http://localhost:8000" in usage_error(f"{demo}/basket", "nothing")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        host = f"http://127.0.0.1:{taken.getsockname()[1]}"
        assert "can't be reached: " in usage_error(host, "nothing")


def test_a_page_that_does_not_count_all_lapsed_units_can_not_be_compared_with_sales(
    demo: str, make_product: MakeProduct
) -> None:
    product = make_product(250)
    for number in range(20):
        lapse(reserve(product, 10, buyer=f"gone {number}"))
    assert "says “at least 150 left”, which is too vague" in usage_error(demo, product.slug)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "http://localhost:8000"], "product: --host needs the product"),
        (["--host", "http://localhost:8000", "--stock", "3"], "stock: can't be chosen with --host"),
        (["--product", "pan"], "give --host, too"),
        (["--workers", "0"], "workers: must be 1 to 64, not 0."),
        (["--buyers", "9999"], "buyers: must be 1 to 5,000, not 9999."),
        (["--threads", "1000"], "the server has"),
        (["--strategy", "magic"], "There is no strategy “magic”"),
    ],
)
def test_options_that_make_no_sense_are_named(options: list[str], words: str) -> None:
    with pytest.raises(CommandError) as failure:
        call_command("http_flash_sale", *options)
    assert failure.value.returncode == 2
    assert words in str(failure.value)


def visit(host: str, product: str, *options: str) -> None:
    call_command("http_flash_sale", "--host", host, "--product", product, *options)


def usage_error(host: str, product: str) -> str:
    """The words of the command's usage error."""
    with pytest.raises(CommandError) as failure:
        visit(host, product, "--buyers", "1")
    assert failure.value.returncode == 2
    return str(failure.value)


def test_buyers_type_something_into_each_field_that_is_required() -> None:
    """They do so even if the checkout asks for more than they know of."""

    class LongerForm(CheckoutForm):
        phone = forms.CharField(widget=forms.TextInput(attrs={"autocomplete": "tel"}))
        floor = forms.CharField(required=False)

    code = (
        "import json, sys; from shop.load_tests.locustfile import typed_at_checkout; "
        "print(json.dumps(typed_at_checkout(sys.argv[1], 7)))"
    )
    done = subprocess.run(  # Not in this process, whose threads gevent would take over
        [sys.executable, "-c", code, LongerForm().as_p()],
        cwd=command_line.ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    typed = json.loads(done.stdout)
    assert (typed["name"], typed["email"]) == ("Buyer 7", "buyer-7@example.org")
    assert typed["phone"]
    assert "floor" not in typed


def locust_alone(host: str, product: str) -> subprocess.CompletedProcess[str]:
    """The Locust file without the command."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "locust", "-f", "shop/load_tests/locustfile.py", "--headless"),
            *("--host", host, "--product", product, "--run-time", "10s"),
        ],
        cwd=command_line.ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
