"""`manage.py flash_sale` as people run it."""

from __future__ import annotations

import io
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from django.core.management import CommandError, call_command

from inventory.experiments.flash_sale import report
from inventory.experiments.models import FlashSale, FlashSaleResult
from inventory.models import Reservation
from tests import command_line

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


def flash_sale(*arguments: str) -> str:
    out = io.StringIO()
    call_command("flash_sale", *arguments, stdout=out)
    return out.getvalue()


def test_the_classic(tmp_path: Path) -> None:
    """Ten laptops, fifteen buyers: the command succeeds though unsafe strategies oversell."""
    file = tmp_path / "sale.json"
    text = flash_sale("--strategy", "naive", "--strategy", "mutex", "--json", str(file))
    assert "naive: 15 buyers served" in text
    assert "sold 15 of 10: 5 buyers will be disappointed" in text
    naive, mutex = json.loads(file.read_text())["results"]
    assert (naive["strategy"], naive["safe"], naive["sold"]) == ("naive", False, 15)
    assert (mutex["strategy"], mutex["safe"]) == ("mutex", True)
    assert (mutex["sold"], mutex["refused"], mutex["stock_left"]) == (10, 5, 0)


def test_json_alone_on_standard_output() -> None:
    arguments = ["--strategy", "mutex", "--quantity", "2-3", "--payment-ms", "0", "--json", "-"]
    data = json.loads(flash_sale(*arguments, "--quiet"))
    assert data["quantity"] == [2, 3]


def test_quiet_is_quiet() -> None:
    assert flash_sale("--strategy", "mutex", "--payment-ms", "0", "--quiet") == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--buyers", "0"], "buyers: must be 1 to 100,000, not 0."),
        (["--stock", "-3"], "stock: must be 1 to 1,000,000, not -3."),
        (["--processes", "0"], "processes: must be 1 to 64, not 0."),
        (["--threads", "0"], "threads: must be 1 to 100,000, not 0."),
        (["--rounds", "0"], "rounds: must be 1 to 1,000, not 0."),
        (["--payment-ms", "-1"], "payment-ms: must be 0 to 60,000, not -1."),
        (["--quantity", "0"], "quantity: must be 1 to 1,000,000, not 0."),
        (["--quantity", "4-2"], "Write the smaller number first."),
        (["--strategy", "niave"], "did you mean naive?"),
        (["--buyers", "3000", "--threads", "1500"], "3000 connections, and the server has"),
        (["--json", "/nowhere/sale.json"], "No such file or directory"),
    ],
)
def test_bad_options_are_named_before_anything_happens(arguments: list[str], message: str) -> None:
    with pytest.raises(CommandError) as refused:
        flash_sale(*arguments)
    assert message in str(refused.value)
    assert refused.value.returncode == 2
    assert not FlashSale.objects.exists()


def test_a_quantity_that_is_no_number_is_a_usage_error() -> None:
    process = command_line.start("flash_sale", "--quantity", "two")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "must be a number of units such as 2 or 1-4, not 'two'" in errors
    assert "Traceback" not in errors


def test_a_safe_strategy_that_failed_is_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def judge(result: FlashSaleResult) -> bool:
        return result.strategy == "mutex"

    monkeypatch.setattr(report, "breaks_promise", judge)
    with pytest.raises(SystemExit) as end:
        flash_sale("--strategy", "mutex", "--payment-ms", "0", "--quiet")
    assert end.value.code == 1


def test_ctrl_c_ends_it_with_all_its_processes() -> None:
    process = command_line.start(
        "flash_sale", "--strategy", "mutex", "--payment-ms", "60000", start_new_session=True
    )
    wait_until(Reservation.objects.held().exists)
    children = psutil.Process(process.pid).children()
    assert children
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Broken off" in errors
    assert "Traceback" not in errors
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.05)
