"""`manage.py benchmark` as people run it. Its measurements differ each time, and aren't tested."""

from __future__ import annotations

import io
import json
import re
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import psutil
import pytest
from django.core.management import CommandError, call_command

from inventory.experiments.benchmark import report, rows, run, shapes
from inventory.models import Product, Reservation, StockMovement
from tests import command_line
from tests.conftest import MakeProduct

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

SHORT = ["--rounds", "1", "--seconds", "0.2", "--warm-up", "0.05", "--processes", "2"]


def benchmark(*arguments: str) -> str:
    out = io.StringIO()
    call_command("benchmark", *SHORT, *arguments, stdout=out)
    return out.getvalue()


def results_of(*arguments: str) -> dict[tuple[str, str, int], dict[str, Any]]:
    results = json.loads(benchmark("--quiet", "--json", "-", *arguments))["results"]
    return {(each["shape"], each["row"], each["buyers"]): each for each in results}


def test_rows_shapes_and_buyers_are_those_asked_for_and_both_ceilings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run, "COLLAPSED", 0)  # a fifth of a second says little of a rate
    of_buyers = ["--buyers", "2", "--buyers", "5"]
    found = results_of("--row", "mutex", *of_buyers, "--shape", "hot", "--rounds", "2")
    assert list(found) == [
        ("hot", row, buyers) for buyers in (2, 5) for row in ("insert only", "read only", "mutex")
    ]
    for (_, row, _), result in found.items():
        assert result["per_second"] > 0
        assert 0 < result["p50_ms"] <= result["p99_ms"]
        assert result["failed"] == 0
        assert result["law_holds"] is (row != "insert only")  # it takes no stock for its holds
        assert len(result["rounds"]) == 2
        assert (result["to_insert_only"] == 1) is (row == "insert only")
        assert (result["to_read_only"] == 1) is (row == "read only")


UNLIKE = ["combined", "serializable"]  # one answers many buyers at once, one begins anew


@pytest.mark.parametrize(
    "chosen",
    [
        pytest.param(UNLIKE, id="some strategies"),
        pytest.param([], id="every safe strategy", marks=pytest.mark.thorough),
    ],
)
def test_safe_strategies_in_every_shape_keep_the_law(
    monkeypatch: pytest.MonkeyPatch, chosen: list[str]
) -> None:
    # Making a thousand products for each row takes far longer than measuring it.
    spread = replace(shapes.SHAPES["spread"], products=30)
    monkeypatch.setitem(shapes.SHAPES, "spread", spread)
    found = results_of("--buyers", "4", "--rate", "40", *(f"--row={slug}" for slug in chosen))
    assert {shape for shape, _, _ in found} == {"hot", "spread", "sold out", "open loop"}
    names = {"insert only", "read only", *(chosen or rows.candidates())}
    assert {row for _, row, _ in found} == names
    assert len(found) == 4 * len(names)
    for (_, row, _), result in found.items():
        assert result["failed"] == 0, result
        assert result["law_holds"] or row == "insert only"


def test_more_buyers_than_connections_share_a_pool() -> None:
    arguments = ["--row", "combined", "--row", "single_statement", "--shape", "hot"]
    for result in results_of(*arguments, "--buyers", "90").values():
        assert result["failed"] == 0
        assert result["per_second"] > 0


def test_nothing_is_left_behind_and_the_shops_own_is_left_alone(make_product: MakeProduct) -> None:
    mine = make_product(10)
    benchmark("--row", "combined", "--shape", "hot", "--shape", "sold out", "--buyers", "4")
    assert list(Product.objects.all()) == [mine]
    assert not Reservation.objects.exists()
    assert StockMovement.objects.count() == 1


def test_the_table_fits_a_terminal_of_80_columns() -> None:
    arguments = ["--shape", "hot", "--shape", "sold out", "--row", "select_for_update"]
    text = benchmark(*arguments, "--buyers", "4")
    assert "hot, 4 buyers: all want one product" in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    rows = [line for line in text.splitlines() if line.startswith("select_for_update ")]
    assert len(rows) == 2
    assert all(line.split()[-1] == "holds" for line in rows)
    assert len(re.findall(r"^insert only .* no guard", text, re.MULTILINE)) == 2


def test_a_strategy_that_oversells_is_shown_as_wrong() -> None:
    out = io.StringIO()
    with pytest.raises(SystemExit) as end:
        call_command(
            "benchmark", *SHORT, "--row", "naive", "--shape", "hot", "--buyers", "6", stdout=out
        )
    assert end.value.code == 1
    [naive] = [line for line in out.getvalue().splitlines() if line.startswith("naive")]
    assert naive.split()[-1] == "BROKEN"


def test_the_picture_has_a_line_for_each_row_in_both_charts(tmp_path: Path) -> None:
    file = tmp_path / "picture.svg"
    arguments = ["--row", "mutex", "--shape", "hot", "--buyers", "2", "--buyers", "4"]
    benchmark(*arguments, "--picture", str(file), "--quiet")
    picture = ElementTree.parse(file).getroot()
    svg = "{http://www.w3.org/2000/svg}"
    assert len(picture.findall(f".//{svg}polyline")) == 2 * 3
    words = [text.text for text in picture.findall(f".//{svg}text")]
    assert words.count("mutex") == 2
    assert "hot: p99, milliseconds" in words


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--buyers", "0"], "buyers: must be 1 to 4,096, not 0."),
        (["--rounds", "0"], "rounds: must be 1 to 1,000, not 0."),
        (["--seconds", "0"], "seconds: must be 0.01 to 600.0, not 0.0."),
        (["--warm-up", "-1"], "warm-up: must be 0 to 600.0, not -1.0."),
        (["--processes", "0"], "processes: must be 1 to 64, not 0."),
        (["--rate", "0"], "rate: must be 1 to 1,000,000, not 0."),
        (["--row", "combine"], "did you mean combined"),
        (["--shape", "warm"], "there is no “warm”; there are hot, spread, sold out, open loop."),
        (
            ["--json", "/nowhere/results.json"],
            "json: /nowhere/results.json can't be",
        ),
        (
            ["--picture", "/nowhere/rates.svg"],
            "picture: /nowhere/rates.svg can't be",
        ),
    ],
)
def test_bad_options_are_named_before_anything_happens(arguments: list[str], message: str) -> None:
    with pytest.raises(CommandError) as refused:
        benchmark(*arguments)
    assert message in str(refused.value)
    assert refused.value.returncode == 2
    assert not Product.objects.exists()


def test_a_buyer_without_an_answer_is_reported_with_exit_code_1(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(report, "is_wrong", lambda result: result.row == "mutex")
    with pytest.raises(SystemExit) as end:
        benchmark("--row", "mutex", "--shape", "hot", "--buyers", "2", "--quiet")
    assert end.value.code == 1


def test_ctrl_c_ends_it_with_all_its_processes_and_products() -> None:
    process = command_line.start(
        *("benchmark", "--seconds", "60", "--shape", "hot", "--buyers", "4"), start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not Reservation.objects.exists():
        assert time.monotonic() < deadline, "nobody buys"
        time.sleep(0.05)
    children = psutil.Process(process.pid).children()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Broken off" in errors
    assert "Traceback" not in errors
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive
    assert not Product.objects.exists()
