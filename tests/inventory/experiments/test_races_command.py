"""``manage.py races``: its output, its files and its end; it leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.management import CommandError, call_command
from django.db import connection
from psycopg import sql
from pytest_django import DjangoDbBlocker

from inventory import conf, stock
from inventory.models import Product
from inventory.races import folding, scratch
from tests.conftest import MakeProduct

ROOT = Path(__file__).resolve().parents[3]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal with room for all columns. tests/test_width.py has narrower ones."""
    monkeypatch.setenv("COLUMNS", "140")


@pytest.fixture(scope="module")
def migrated(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[sql.Identifier]:
    """A database with nothing in it but what migrations make."""
    name, database = f"migrated_{os.getpid()}", connection.settings_dict["NAME"]
    with django_db_blocker.unblock():
        scratch.create("default", sql.Identifier(name))
        try:
            scratch.switch("default", name)
            scratch.migrate("default")
        finally:
            scratch.switch("default", database)
        yield sql.Identifier(name)
        drop = sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))
        scratch.execute("default", drop)


@pytest.fixture
def copies_of_migrated(migrated: sql.Identifier, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let scratch databases be copies of it, since migrations take longer than most races."""

    def copy(using: str, database: sql.Identifier) -> None:
        scratch.execute(using, sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(database, migrated))

    monkeypatch.setattr(scratch, "create", copy)
    monkeypatch.setattr(scratch, "migrate", lambda using: None)


def races(*options: str) -> tuple[int, str]:
    out = StringIO()
    try:
        call_command("races", *options, stdout=out, stderr=out)
    except SystemExit as ended:
        return int(ended.code or 0), out.getvalue()
    return 0, out.getvalue()


def scratch_databases(process: int | None = None) -> list[str]:
    """The scratch databases of a process, by default this one."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT datname FROM pg_database WHERE starts_with(datname, %s)",
            [f"races_{process or os.getpid()}_"],
        )
        return [name for (name,) in cursor.fetchall()]


def test_a_table_a_page_and_json_and_nothing_is_left(
    make_product: MakeProduct, tmp_path: Path
) -> None:
    make_product(3, sku="RACE")
    page, data = tmp_path / "races.html", tmp_path / "races.json"
    code, out = races(
        "naive", "conditional_update", "--buyers=2", f"--html={page}", f"--json={data}"
    )
    assert code == 0
    rows = [line.split() for line in out.splitlines()]
    assert rows[1][:7] == ["naive", "no", "2", "24", "22", "14", "0"]
    assert rows[1][7] == "exhaustive"
    assert rows[1][9:] == ["lost", "update"]
    assert rows[2][:7] == ["conditional_update", "yes", "2", "6", "0", "4", "0"]

    naive, conditional = json.loads(data.read_text())["results"]
    expected: dict[str, Any] = {
        "strategy": "naive",
        "safe": False,
        "buyers": 2,
        "schedules": 24,
        "broken": 22,
        "waits": 14,
        "deadlocks": 0,
        "exhaustive": True,
        "anomalies": ["lost update"],
    }
    assert {key: naive[key] for key in expected} == expected
    assert naive["seconds"] > 0
    assert naive["shortest"]["preemptions"] == 1
    assert naive["shortest"]["lines"][0]["result"] == "stock=1, version=1"
    assert conditional["shortest"] is None

    html = page.read_text()
    assert well_formed(html)
    assert "A read stock = 1 (line 1) before B&#x27;s COMMIT (line 5)" in html
    assert "Naive read and save, 2 buyers, stock 1" in html
    assert "http" not in html  # it needs nothing else

    assert Product.objects.get().stock == 3  # the shop's product of that SKU
    assert not scratch_databases()


def well_formed(html: str) -> bool:
    """Whether every element is closed, in order."""

    class Check(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []

        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag != "meta":
                self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag, tag

    check = Check()
    check.feed(html)
    return not check.open


@pytest.mark.usefixtures("copies_of_migrated")
@pytest.mark.parametrize(
    ("slug", "heading", "story"),
    [
        ("unguarded_decrement", "BROKEN", "and still set stock to stock - 1"),
        ("select_for_update", "holds", "B had to wait for A (row lock on inventory_product)"),
    ],
)
def test_showing_one(slug: str, heading: str, story: str) -> None:
    code, out = races("--show", slug)
    assert code == 0
    assert f"\n{heading}  A" in out
    assert "before: available 1 + held 0 + sold 0 = received 1" in out
    assert story in out


@pytest.mark.usefixtures("copies_of_migrated")
def test_a_strategy_that_is_falsely_called_safe_is_an_error(settings: LazySettings) -> None:
    own = "tests.inventory.strategies.own_strategies.Oversells"
    settings.INVENTORY_STRATEGIES = [*conf.STRATEGIES, own]
    code, out = races("oversells", "--max-preemptions=1", "--buyers=2")
    assert code == 1
    assert "oversells calls itself safe, and is broken in 6 of 8 schedules:" in out
    assert "oversold 1" in out


@pytest.mark.usefixtures("copies_of_migrated")
def test_a_transcript_is_printed_once(settings: LazySettings) -> None:
    own = "tests.inventory.strategies.own_strategies.Oversells"
    settings.INVENTORY_STRATEGIES = [*conf.STRATEGIES, own]
    code, out = races("--show=oversells", "--max-preemptions=1", "--buyers=2")
    assert code == 1
    assert out.count("BROKEN  A") == 1
    assert "is broken in 6 of 8 schedules, as shown above." in out


@pytest.mark.usefixtures("copies_of_migrated")
def test_a_long_transcript_is_whole_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "UNFOLDED", 8)  # else it takes four buyers
    monkeypatch.setattr(folding, "MOST", 8)
    options = ("--show=serializable", "--buyers=3", "--stock=3", "--max-preemptions=0")
    _, out = races(*options)
    _, full = races(*options, "--full")
    assert " more lines (" in out
    assert "lines: with --full" in out
    assert " more lines (" not in full
    assert full.count(" │ ") > out.count(" │ ")
    assert "with --full" not in full


@pytest.mark.usefixtures("copies_of_migrated")
def test_an_aborted_transaction_at_a_higher_level_breaks_nothing() -> None:
    code, out = races("conditional_update", "--buyers=2", "--isolation=serializable")
    assert code == 0
    assert out.splitlines()[1].split()[:5] == ["conditional_update", "yes", "2", "6", "0"]


@pytest.mark.usefixtures("copies_of_migrated")
def test_a_higher_level_is_no_help_where_the_check_is_a_transaction_of_its_own() -> None:
    code, out = races("naive", "--buyers=2", "--isolation=repeatable-read", "--max-preemptions=1")
    assert code == 0
    assert int(out.splitlines()[1].split()[4]) > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["naiv"], "did you mean naive"),
        (["--show=xyzzy"], "there are naive, "),
        (["--buyers=1"], "a whole number from 2 to 6, not '1'"),
        (["--buyers=many"], "a whole number from 2 to 6, not 'many'"),
        (["--stock=-1"], "a whole number from 0 to 1000"),
        (["--max-preemptions=-1"], "a whole number from 0 to 100"),
        (["--budget=0"], "a whole number from 1 to 1000000"),
        (["--isolation=chaos"], "one of read committed, repeatable read, serializable"),
        (["--json=/nowhere/races.json"], "/nowhere/races.json can't be written: No such file"),
        (["--html=/"], "/ can't be written: Is a directory"),
        (["naive", "--as=ann"], "--as is about requests, and no URL is named"),
        (["--first"], "--first is about requests, and no URL is named: it begins with a slash."),
        (["/basket/holds/", "--stock=0"], "--stock is about strategies, and this is about URLs."),
        (["--list", "--show=naive"], "--show is about strategies, and this is about URLs."),
        (["/basket/holds/", "naive"], "A URL begins with a slash, as in /orders/1/pay/; 'naive' d"),
    ],
)
def test_options_that_make_no_sense(options: list[str], message: str) -> None:
    with pytest.raises(CommandError) as refused:
        call_command("races", *options)
    assert message in str(refused.value)
    assert refused.value.returncode == 2 or "Error: argument" in str(refused.value)
    assert not scratch_databases()


def test_the_views_of_the_project() -> None:
    code, out = races("--list")
    assert code == 0
    assert "POST /checkout/  shop.views.checkout.checkout" in out


@pytest.mark.usefixtures("copies_of_migrated")
def test_two_requests_to_the_shop() -> None:
    setup = "--setup=tests.inventory.experiments.test_races_command:last_unit"
    code, out = races(
        *("/basket/holds/", setup, "--data=product=mug", "--data=quantity=1"),
        *("--data=A:key=00000000-0000-0000-0000-000000000001", "--max-preemptions=0"),
        "--data=B:key=00000000-0000-0000-0000-000000000002",
    )
    assert code == 0, out
    assert "B  POST /basket/holds/  alone: 302 Found to /basket/" in out
    assert " 0 broken (all with at most no preemptions" in out
    assert not Product.objects.exists()
    assert not scratch_databases()


def last_unit() -> None:
    product = Product.objects.create(
        sku="MUG", slug="mug", name="Mug", price=5, strategy="single_statement"
    )
    stock.receive(product, 1)


def manage(*options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "manage.py", "races", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


def test_a_usage_error_ends_with_2() -> None:
    for option, message in (("naiv", "did you mean naive"), ("--buyers=1", "from 2 to 6")):
        command = manage(option)
        _, errors = command.communicate(timeout=60)
        assert command.returncode == 2
        assert message in errors
        assert "Traceback" not in errors
        assert "usage" not in errors


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_command_drops_its_database(number: int, code: int) -> None:
    command = manage("--buyers=4")
    deadline = time.monotonic() + 60
    while not buyers_of(command.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    command.send_signal(number)
    _, errors = command.communicate(timeout=60)
    assert command.returncode == code, errors
    assert "Traceback" not in errors
    assert not scratch_databases(command.pid)


def buyers_of(process: int) -> int:
    """The number of connected buyers of the command, which has two more connections."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE starts_with(datname, %s)",
            [f"races_{process}_"],
        )
        return max(0, int(cursor.fetchone()[0]) - 2)
