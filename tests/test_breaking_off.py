"""Ctrl-C, as a terminal sends it to a command and its children: the command shows its results."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from inventory.experiments.models import FlashSale, FlashSaleResult
from inventory.models import Product, Reservation
from shop.load_tests.http_benchmark import wrk
from tests import command_line
from tests.conftest import MakeProduct

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

SECONDS = 90  # after which a test gives up
MEGABYTES_OF_DJANGO = 25  # that Python alone doesn't have

COMMANDS = {
    "flash_sale": ["--rounds", "50"],
    "benchmark": ["--shape", "hot", "--buyers", "4", "--rounds", "50"],
    "races": ["--buyers", "3"],
    "http_flash_sale": ["--buyers", "5", "--stock", "2"],
    "http_benchmark": ["--buyers", "4"],
    "demo": ["--no-serve"],
}


def break_off(
    command: str,
    *arguments: str,
    when: Callable[[subprocess.Popen[str]], object],
    by: signal.Signals = signal.SIGINT,
) -> tuple[str, str]:
    """Send the signal to the command's whole group; return what it printed, and its errors."""
    process = command_line.start(command, *arguments, start_new_session=True)
    try:
        wait_until(lambda: when(process) or process.poll() is not None)
        assert process.poll() is None, process.communicate()
        os.killpg(process.pid, by)
        output, errors = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    assert "Traceback" not in output + errors, output + errors
    assert process.returncode == 128 + by, output + errors
    wait_until(lambda: not group_of(process))
    return output, errors


def group_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes left of the command's group."""
    left = []
    for each in psutil.process_iter():
        try:
            if os.getpgid(each.pid) == process.pid and each.status() != psutil.STATUS_ZOMBIE:
                left.append(each)
        except (psutil.Error, ProcessLookupError):
            continue
    return left


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def imports_django(process: subprocess.Popen[str]) -> bool:
    try:
        return bool(psutil.Process(process.pid).memory_info().rss > MEGABYTES_OF_DJANGO * 2**20)
    except psutil.Error:
        return False


def has_children(number: int) -> Callable[[subprocess.Popen[str]], bool]:
    """Whether the command has started this number of children, which are still at their imports."""
    return lambda process: len(psutil.Process(process.pid).children()) >= number


@pytest.mark.parametrize("command", COMMANDS)
def test_nothing_is_said_of_a_start_that_is_broken_off(command: str) -> None:
    break_off(command, *COMMANDS[command], when=imports_django)


@pytest.mark.parametrize("command", ["flash_sale", "benchmark"])
@pytest.mark.parametrize(
    "children", [4, *(pytest.param(n, marks=pytest.mark.thorough) for n in (2, 6, 8))]
)
def test_children_that_are_being_started_say_nothing_either(command: str, children: int) -> None:
    many = ["--processes", "8"]  # some of them are always at their imports
    break_off(command, *COMMANDS[command], *many, when=has_children(children))
    assert not FlashSale.objects.exclude(state=FlashSale.State.BROKEN_OFF).exists()


@pytest.mark.parametrize(
    "by", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.thorough)]
)
def test_a_flash_sale_shows_and_stores_the_strategies_that_were_finished(
    tmp_path: Path, by: signal.Signals
) -> None:
    file = tmp_path / "sale.json"
    output, errors = break_off(
        *("flash_sale", "--rounds", "50", "--strategy", "naive", "--strategy", "mutex"),
        *("--json", str(file)),
        when=lambda process: FlashSaleResult.objects.count() >= 3,
        by=by,
    )
    sale = FlashSale.objects.get()
    done = sale.results.count()
    assert sale.state == FlashSale.State.BROKEN_OFF
    assert done >= 3
    assert f"Broken off: {done} of 100 turns done." in output
    assert "sold 15 of 10" in output
    assert "exact" in output
    assert "Broken off." in errors
    results = json.loads(file.read_text())
    assert results["broken_off"] is True
    assert len(results["results"]) == done


def test_a_benchmark_shows_the_rows_that_were_measured(
    tmp_path: Path, make_product: MakeProduct
) -> None:
    mine, file = make_product(10), tmp_path / "rates.json"
    arguments = ["--shape", "hot", "--buyers", "2", "--seconds", "0.1", "--warm-up", "0"]
    output, _ = break_off(
        *("benchmark", *arguments, "--row", "mutex", "--rounds", "500", "--json", str(file)),
        # Each round's products are made at its beginning: so one is over, and both have a rate.
        when=lambda process: Product.objects.filter(sku__contains="-3-").exists(),
    )
    results = json.loads(file.read_text())
    assert results["broken_off"] is True
    rounds = {result["row"]: len(result["rounds"]) for result in results["results"]}
    assert set(rounds) == {"insert only", "read only", "mutex"}
    assert f"Broken off: {sum(rounds.values())} of 1,500 turns done." in output
    assert [line for line in output.splitlines() if line.startswith("mutex ")]
    assert list(Product.objects.all()) == [mine]
    assert not Reservation.objects.exists()


def test_races_show_what_was_found_also_of_the_strategy_under_way(tmp_path: Path) -> None:
    file = tmp_path / "races.json"
    output, errors = break_off(
        # Three at once: the safe strategy is explored in a second, naive in minutes.
        *("races", "single_statement", "naive", "--buyers", "3", "--budget", "100000"),
        *("--json", str(file)),
        when=after(seconds=10),
    )
    assert "The races' database is dropped." in errors
    finished, under_way = json.loads(file.read_text())["results"]
    assert (finished["strategy"], finished["broken_off"]) == ("single_statement", False)
    assert (under_way["strategy"], under_way["broken_off"]) == ("naive", True)
    assert under_way["schedules"] > 0
    assert "3 buyers, exhaustive" in output
    assert "3 buyers, broken off" in output
    assert [line for line in output.splitlines() if line.startswith("naive ")]


def after(seconds: float) -> Callable[[subprocess.Popen[str]], bool]:
    """Whether this time has passed; for states that can't be seen from outside."""
    began = time.monotonic()
    return lambda process: time.monotonic() - began > seconds


def test_a_flash_sale_over_http_shows_the_strategies_that_were_finished() -> None:
    strategies = ("mutex", "naive", "versioned", "serializable")
    output, errors = break_off(
        *("http_flash_sale", *(f"--strategy={slug}" for slug in strategies), "--buyers", "3"),
        *("--stock", "2", "--think", "0"),
        when=says("naive: 3 buyers served"),  # so the first one has been judged
    )
    assert re.search(r"Broken off: [123] of 4 turns done\.", output)
    assert re.search(r"^mutex +2 +1 +0 ", output, re.MULTILINE)
    assert "exact" in output
    assert "what was made for it is removed." in errors


@pytest.mark.thorough
@pytest.mark.skipif(not wrk.is_installed(), reason="wrk isn't installed")
def test_a_benchmark_over_http_shows_the_rows_that_were_measured(tmp_path: Path) -> None:
    file = tmp_path / "rates.json"
    output, _ = break_off(
        *("http_benchmark", "--only", "stock fragment, gthread", "--connections", "2"),
        *("--seconds", "1", "--warm-up", "0", "--rounds", "500", "--json", str(file)),
        when=says("round 3"),
    )
    results = json.loads(file.read_text())
    assert results["broken_off"] is True
    [row] = results["results"]
    assert len(row["rounds"]) >= 2
    assert row["failed"] == 0
    assert f"Broken off: {len(row['rounds'])} of 500 turns done." in output
    assert [line for line in output.splitlines() if line.startswith("stock fragment, gthread ")]


def says(beginning: str) -> Callable[[subprocess.Popen[str]], bool]:
    """Whether the command has printed a line with this beginning."""

    def has_said(process: subprocess.Popen[str]) -> bool:
        assert process.stdout is not None
        return any(line.startswith(beginning) for line in process.stdout)

    return has_said
